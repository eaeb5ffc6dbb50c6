-- Makes the role inspector, which reads what sql/inspect/ reads and changes nothing. The service's own role has to run it, so that
-- tables of later migrations are covered; so is what else that role creates, Better Auth's tables for one.
-- Try it: psql "$NEON_DATABASE_URL" -f sql/roles/inspector.sql
SELECT 'CREATE ROLE inspector LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'inspector') \gexec
GRANT pg_monitor TO inspector;
GRANT SELECT ON tasks, schema_migrations TO inspector;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO inspector;

-- Seat belts, which a session may take off: the rights above are what holds.
ALTER ROLE inspector SET default_transaction_read_only = on;
ALTER ROLE inspector SET statement_timeout = '30s';
ALTER ROLE inspector SET idle_in_transaction_session_timeout = '1min';
