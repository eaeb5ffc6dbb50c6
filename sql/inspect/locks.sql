-- Shows each process that waits for a lock, and the process that holds the lock, longest wait first. The holder may also wait for
-- another lock. If there are no rows, nobody waits.
-- Try it: psql "$NEON_DATABASE_URL" -f sql/inspect/locks.sql
-- SELECT pg_cancel_backend(PID) ends the statement of a process, pg_terminate_backend(PID) its connection and transaction.
SELECT to_regclass('pg_dist_partition') IS NOT NULL AS citus \gset
\if :citus
\echo 'On Citus the first list holds the waits in the whole cluster. The second one holds only those on this node.'
SELECT waiting_gpid, blocking_gpid, left(blocked_statement, 60) AS waiting, left(current_statement_in_blocking_process, 60) AS blocking
FROM citus_lock_waits;
\endif
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
