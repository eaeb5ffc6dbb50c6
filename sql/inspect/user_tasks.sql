-- Lists the tasks of a user, last changed first; long texts are cut.
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -f sql/inspect/user_tasks.sql
SELECT
    id,
    CASE WHEN completed THEN 'done' ELSE '' END AS done,
    left(title, 50) AS title,
    left(description, 30) AS description,
    date_trunc('second', created_at AT TIME ZONE 'UTC') AS created_utc,
    date_trunc('second', updated_at AT TIME ZONE 'UTC') AS updated_utc
FROM tasks
WHERE user_id = :'user_id'
ORDER BY updated_at DESC, id DESC;
