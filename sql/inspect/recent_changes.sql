-- Lists the 50 most recently changed tasks of all users, without their texts. Reads all tasks.
-- Try it: psql "$NEON_DATABASE_URL" -f sql/inspect/recent_changes.sql
SELECT
    date_trunc('second', updated_at AT TIME ZONE 'UTC') AS updated_utc,
    date_trunc('second', now() - updated_at) AS ago,
    user_id,
    id,
    CASE WHEN updated_at = created_at THEN 'made' ELSE 'changed' END AS what,
    CASE WHEN completed THEN 'done' ELSE '' END AS done
FROM tasks
ORDER BY updated_at DESC, user_id DESC, id DESC
LIMIT 50;
