-- Permanently deletes all tasks of a user, and prints how many there were. For requests under data protection law.
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -f sql/admin/delete_user.sql
-- Export the tasks first. Until they expire, logs still hold the user's id, and backups still hold the user's id and tasks.
-- Tokens of the user stay valid.
\if :{?user_id}
WITH deleted AS (DELETE FROM tasks WHERE user_id = :'user_id' RETURNING id)
SELECT count(*) AS deleted_tasks FROM deleted;
\else
\warn 'user_id is missing: add -v user_id=alice'
\endif
