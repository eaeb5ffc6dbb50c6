-- Lists the constraints. Those that are NOT VALID come first, because older rows may violate them. VALIDATE CONSTRAINT checks all rows.
-- Try it: psql "$NEON_DATABASE_URL" -f sql/inspect/constraints.sql
SELECT
    coalesce(relname, typname) AS table_or_domain,
    conname AS constraint,
    CASE WHEN convalidated THEN '' ELSE 'NOT VALID' END AS state,
    pg_get_constraintdef(pg_constraint.oid) AS definition
FROM pg_constraint
LEFT JOIN pg_stat_user_tables ON relid = conrelid
LEFT JOIN pg_type ON pg_type.oid = contypid
WHERE connamespace = current_schema()::regnamespace AND (contype <> 'n' OR NOT convalidated) -- PostgreSQL 18 lists every NOT NULL
ORDER BY convalidated, table_or_domain, conname;
