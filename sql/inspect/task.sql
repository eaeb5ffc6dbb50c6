-- Shows a task, whoever owns it. `task_id` can be an id from a log record, for example. Reads all tasks, because the key begins
-- with user_id.
-- Try it: psql "$NEON_DATABASE_URL" -v task_id=1234 -f sql/inspect/task.sql
\if :{?task_id}
SELECT
    user_id,
    id,
    CASE WHEN completed THEN 'done' ELSE '' END AS done,
    left(title, 50) AS title,
    left(description, 30) AS description,
    date_trunc('second', created_at AT TIME ZONE 'UTC') AS created_utc,
    date_trunc('second', updated_at AT TIME ZONE 'UTC') AS updated_utc
FROM tasks
WHERE id = :'task_id'::bigint;
\else
\warn 'task_id is missing: add -v task_id=1234'
\endif
