-- One task of a user; no row when the user has no such task.
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -v task_id=1 -f sql/get_task.sql
SELECT row_to_json(task)::text AS task
FROM (
    SELECT id, user_id, title, description, completed, created_at, updated_at
    FROM tasks
    WHERE user_id = :'user_id' AND id = :'task_id'::bigint
) AS task;
