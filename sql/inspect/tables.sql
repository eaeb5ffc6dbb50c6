-- Measures each table: rows, dead rows, size on disk, and when it was last vacuumed.
-- Try it: psql "$NEON_DATABASE_URL" -f sql/inspect/tables.sql
-- All counts are estimates. unused_percent is the free part of the table: at least 10 for the table `tasks` because of its
-- fillfactor, and meaningless for a table with few rows. hot_percent is the share of the updates that did not touch the indexes;
-- it should be near 100.
SELECT to_regclass('pg_dist_partition') IS NOT NULL AS citus \gset
\if :citus
\echo 'On Citus the first list holds the distributed tables. The second one holds only what this node itself stores.'
SELECT table_name, citus_table_type, distribution_column, table_size, shard_count FROM citus_tables ORDER BY table_name;
\endif
SELECT
    stat.relname AS table,
    greatest(reltuples, 0)::bigint AS rows,
    n_dead_tup AS dead_rows,
    pg_size_pretty(pg_table_size(relid)) AS size,
    pg_size_pretty(pg_indexes_size(relid)) AS indexes,
    round(100 * greatest(1 - reltuples * (28 + width) / nullif(pg_relation_size(relid), 0), 0)) AS unused_percent,
    round(100.0 * n_tup_hot_upd / nullif(n_tup_upd, 0)) AS hot_percent,
    seq_scan AS full_scans,
    date_trunc('second', greatest(last_vacuum, last_autovacuum) AT TIME ZONE 'UTC') AS vacuumed_utc,
    date_trunc('second', greatest(last_analyze, last_autoanalyze) AT TIME ZONE 'UTC') AS analyzed_utc
FROM pg_stat_user_tables AS stat
JOIN pg_class ON oid = relid
CROSS JOIN LATERAL (
    SELECT sum(avg_width * (1 - null_frac)) AS width FROM pg_stats WHERE schemaname = stat.schemaname AND tablename = stat.relname
) AS columns
WHERE schemaname = current_schema()
ORDER BY pg_total_relation_size(relid) DESC;
