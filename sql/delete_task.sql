-- Deletes a task; no row when the user has no such task.
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -v task_id=1 -f sql/delete_task.sql
DELETE FROM tasks
WHERE user_id = :'user_id' AND id = :'task_id'::bigint
RETURNING id;
