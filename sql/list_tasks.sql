-- All tasks of a user, oldest first, as one JSON array.
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -f sql/list_tasks.sql
-- Plan: one range of tasks_pkey, which is in this order already.
SELECT array_to_json(array(
    SELECT task
    FROM (
        SELECT id, user_id, title, description, completed, created_at, updated_at
        FROM tasks
        WHERE user_id = :'user_id'
        ORDER BY user_id, id
    ) AS task
))::text AS tasks;
