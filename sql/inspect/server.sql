-- Summarizes the server and the database. Start here when something is wrong.
-- Try it: psql "$NEON_DATABASE_URL" -f sql/inspect/server.sql
-- `read_only` shows default_transaction_read_only for your role. If it is `on`, writes fail; `source` says where it was set. The
-- counters started at 0 at `counted_since_utc`. All writes stop when wraparound_percent reaches 100. Autovacuum prevents this: it
-- begins when wraparound_percent reaches 10.
SELECT to_regclass('pg_dist_partition') IS NOT NULL AS citus \gset
\if :citus
\echo 'On Citus this is the node that you are connected to. These are the worker nodes:'
SELECT node_name, node_port FROM citus_get_active_worker_nodes();
\endif
SELECT
    current_setting('server_version') AS version,
    date_trunc('second', pg_postmaster_start_time() AT TIME ZONE 'UTC') AS up_since_utc,
    CASE WHEN pg_is_in_recovery() THEN 'standby, read-only' ELSE 'primary' END AS kind,
    (
        SELECT concat_ws(', source: ', setting, CASE WHEN setting = 'on' THEN source END)
        FROM pg_settings WHERE name = 'default_transaction_read_only'
    ) AS read_only,
    datname AS database,
    pg_size_pretty(pg_database_size(datname)) AS size,
    numbackends AS connections,
    date_trunc('second', stats_reset AT TIME ZONE 'UTC') AS counted_since_utc,
    xact_commit AS commits,
    xact_rollback AS rollbacks,
    deadlocks,
    round(100.0 * blks_hit / nullif(blks_hit + blks_read, 0), 1) AS cache_hit_percent,
    pg_size_pretty(temp_bytes) AS temporary_files,
    round(100 * age(datfrozenxid) / 2147483648.0, 1) AS wraparound_percent
FROM pg_stat_database
JOIN pg_database USING (datname)
WHERE datname = current_database() \gx
