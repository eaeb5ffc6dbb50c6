-- Lists the 100 most recently changed tasks of a user. all_tasks counts all tasks of the user. Long texts are truncated.
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -f sql/inspect/user_tasks.sql
\if :{?user_id}
SELECT
    id,
    CASE WHEN completed THEN 'done' ELSE '' END AS done,
    left(title, 50) AS title,
    left(description, 30) AS description,
    date_trunc('second', created_at AT TIME ZONE 'UTC') AS created_utc,
    date_trunc('second', updated_at AT TIME ZONE 'UTC') AS updated_utc,
    count(*) OVER () AS all_tasks
FROM tasks
WHERE user_id = :'user_id'
ORDER BY updated_at DESC, id DESC
LIMIT 100;
\else
\warn 'user_id is missing: add -v user_id=alice'
\endif
