-- Lists the migrations that have been applied. The last one should be the last file in sql/migrations/.
-- Try it: psql "$NEON_DATABASE_URL" -f sql/inspect/migrations.sql
SELECT version, date_trunc('second', applied_at AT TIME ZONE 'UTC') AS applied_utc
FROM schema_migrations
ORDER BY version;
