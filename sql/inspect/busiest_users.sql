-- Ranks the users by the tasks that they created or changed in the last day. A task counts once even if it changed often, and a
-- deleted task does not count. Reads all tasks.
-- Try it: psql "$NEON_DATABASE_URL" -f sql/inspect/busiest_users.sql
SELECT
    user_id,
    count(*) FILTER (WHERE updated_at > now() - interval '1 hour') AS last_hour,
    count(*) AS last_day,
    count(*) FILTER (WHERE created_at > now() - interval '1 day') AS new,
    date_trunc('second', max(updated_at) AT TIME ZONE 'UTC') AS last_change_utc
FROM tasks
WHERE updated_at > now() - interval '1 day'
GROUP BY user_id
ORDER BY last_day DESC, last_hour DESC, user_id
LIMIT 20;
