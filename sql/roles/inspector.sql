-- Creates the role inspector, which can run the files in sql/inspect/ but cannot change anything. Run it as the service's own
-- role: inspector can then also read all tables that this role creates later, for example those of Better Auth.
-- Try it: psql "$NEON_DATABASE_URL" -f sql/roles/inspector.sql
SELECT 'CREATE ROLE inspector LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'inspector') \gexec
GRANT pg_monitor TO inspector;
GRANT SELECT ON tasks, api_tasks, schema_migrations TO inspector;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO inspector;

-- These settings only prevent accidents, because a session can change them. The rights above are the protection.
ALTER ROLE inspector SET default_transaction_read_only = on;
ALTER ROLE inspector SET statement_timeout = '30s';
ALTER ROLE inspector SET idle_in_transaction_session_timeout = '1min';
