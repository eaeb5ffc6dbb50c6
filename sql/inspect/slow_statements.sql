-- Ranks the statements by the time that the database spent on them. A statement from sql/ contains the name of its file.
-- Try it: psql "$NEON_DATABASE_URL" -f sql/inspect/slow_statements.sql
SELECT to_regclass('pg_stat_statements') IS NOT NULL
   AND current_setting('pg_stat_statements.max', true) IS NOT NULL AS counted \gset
\if :counted
SELECT
    coalesce(substring(query FROM '/\* (\w+) \*/'), left(regexp_replace(query, '\s+', ' ', 'g'), 60)) AS statement,
    sum(calls) AS calls,
    round(sum(total_exec_time)::numeric / 1000, 1) AS total_s,
    round(100 * (sum(total_exec_time) / sum(sum(total_exec_time)) OVER ())) AS percent,
    round(sum(total_exec_time)::numeric / sum(calls), 2) AS mean_ms,
    round(max(max_exec_time)::numeric, 1) AS max_ms,
    round(sum(rows) / sum(calls), 1) AS rows_each
FROM pg_stat_statements
JOIN pg_database ON pg_database.oid = dbid
WHERE datname = current_database() AND calls > 0
GROUP BY 1
ORDER BY sum(total_exec_time) DESC
LIMIT 20;
\else
\echo 'Statements are not counted. Add pg_stat_statements to shared_preload_libraries and create the extension in this database.'
\endif
