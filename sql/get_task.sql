-- One task of a user and its version; no row when the user has no such task.
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -v task_id=1 -f sql/get_task.sql
-- Plan: one entry of tasks_pkey.
SELECT row_to_json(task)::text AS task, version
FROM tasks CROSS JOIN LATERAL (SELECT id, user_id, title, description, completed, created_at, updated_at) AS task
WHERE tasks.user_id = :'user_id' AND tasks.id = :'task_id'::bigint;
