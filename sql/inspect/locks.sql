-- Shows who waits for whose lock, longest first; nobody waits when there is no row. Who holds a lock may wait in turn.
-- Try it: psql "$NEON_DATABASE_URL" -f sql/inspect/locks.sql
-- SELECT pg_cancel_backend(PID) ends the statement of a process, pg_terminate_backend(PID) its connection and transaction.
SELECT
    waiter.pid AS waiting,
    date_trunc('second', clock_timestamp() - waitstart) AS since,
    coalesce(substring(waiter.query FROM '/\* (\w+) \*/'), left(regexp_replace(waiter.query, '\s+', ' ', 'g'), 40)) AS statement,
    mode || ' on ' || coalesce(relation::regclass::text, locktype) AS lock,
    holder_pid AS holder,
    holder.state AS holder_state,
    date_trunc('second', clock_timestamp() - holder.xact_start) AS transaction,
    coalesce(substring(holder.query FROM '/\* (\w+) \*/'), left(regexp_replace(holder.query, '\s+', ' ', 'g'), 40))
        AS last_statement
FROM pg_locks
JOIN pg_stat_activity AS waiter ON waiter.pid = pg_locks.pid
CROSS JOIN LATERAL unnest(pg_blocking_pids(waiter.pid)) AS holder_pid
LEFT JOIN pg_stat_activity AS holder ON holder.pid = holder_pid
WHERE NOT granted AND waiter.datname = current_database()
ORDER BY waitstart;
