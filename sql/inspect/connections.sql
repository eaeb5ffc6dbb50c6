-- Counts the connections by application and state, and compares their number with the limit. `longest` is the longest time that
-- any of them has been in its current state.
-- Try it: psql "$NEON_DATABASE_URL" -f sql/inspect/connections.sql
SELECT
    CASE WHEN grouping(datname) = 1 THEN 'all of ' || current_setting('max_connections') ELSE datname END AS database,
    usename AS role,
    application_name AS application,
    CASE WHEN grouping(datname) = 0 THEN coalesce(state, 'hidden from you') END AS state,
    count(*) AS connections,
    date_trunc('second', max(clock_timestamp() - state_change)) AS longest
FROM pg_stat_activity
WHERE datname IS NOT NULL
GROUP BY GROUPING SETS ((datname, usename, application_name, state), ())
ORDER BY grouping(datname), connections DESC;
