-- Counts the users who have 1 to 9 tasks, 10 to 99, and so on. Reads all tasks.
-- Try it: psql "$NEON_DATABASE_URL" -f sql/inspect/tasks_per_user.sql
WITH users AS (SELECT count(*) AS tasks FROM tasks GROUP BY user_id),
sized AS (SELECT tasks, length(tasks::text) AS digits FROM users)
SELECT
    coalesce(rpad('1', digits, '0') || ' to ' || repeat('9', digits), 'all') AS tasks_of_a_user,
    count(*) AS users,
    coalesce(sum(tasks), 0) AS tasks,
    max(tasks) AS most
FROM sized
GROUP BY GROUPING SETS ((digits), ())
ORDER BY digits;
