-- Checks that the database answers.
-- Try it: psql "$NEON_DATABASE_URL" -f sql/ready.sql
SELECT true;
