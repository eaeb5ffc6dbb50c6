-- Returns one task of a user and its version. No row if the user has no such task.
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -v task_id=1 -f sql/get_task.sql
-- Plan: one entry of tasks_pkey.
SELECT row_to_json(task)::text AS task, (extract(epoch FROM updated_at) * 1000000)::bigint AS version
FROM api_tasks AS task
WHERE user_id = :'user_id' AND id = :'task_id'::bigint;
