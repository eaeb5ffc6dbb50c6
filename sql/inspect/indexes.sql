-- Measures each index: its size, and how often it is used. An index that is NOT VALID is left over from a failed CREATE INDEX
-- CONCURRENTLY.
-- Try it: psql "$NEON_DATABASE_URL" -f sql/inspect/indexes.sql
-- When bytes_per_row has grown, REINDEX INDEX CONCURRENTLY gives the space back.
SELECT to_regclass('pg_dist_partition') IS NOT NULL AS citus \gset
\if :citus
\echo 'On Citus this shows only what this node itself stores. Connect to a worker node to see the indexes of its shards.'
\endif
SELECT
    indexrelname AS index,
    stat.relname AS table,
    pg_size_pretty(pg_relation_size(indexrelid)) AS size,
    round(pg_relation_size(indexrelid) / nullif(greatest(reltuples, 0), 0)) AS bytes_per_row,
    idx_scan AS scans,
    idx_tup_read AS rows_read,
    CASE WHEN indisvalid THEN '' ELSE 'NOT VALID' END AS state
FROM pg_stat_user_indexes AS stat
JOIN pg_index USING (indexrelid)
JOIN pg_class ON oid = indexrelid
WHERE schemaname = current_schema()
ORDER BY pg_relation_size(indexrelid) DESC, indexrelname;
