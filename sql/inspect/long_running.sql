-- Lists the processes that run a statement or keep a transaction open, longest first.
-- Try it: psql "$NEON_DATABASE_URL" -f sql/inspect/long_running.sql
-- SELECT pg_cancel_backend(PID) ends the statement of a process, pg_terminate_backend(PID) its connection and transaction.
SELECT
    pid,
    usename AS role,
    application_name AS application,
    date_trunc('milliseconds', clock_timestamp() - xact_start) AS transaction,
    state,
    date_trunc('milliseconds', clock_timestamp() - state_change) AS in_state,
    concat_ws(': ', wait_event_type, wait_event) AS waits_for,
    coalesce(substring(query FROM '/\* (\w+) \*/'), left(regexp_replace(query, '\s+', ' ', 'g'), 60)) AS statement
FROM pg_stat_activity
WHERE state <> 'idle' AND datname = current_database() AND pid <> pg_backend_pid()
ORDER BY xact_start, state_change;
