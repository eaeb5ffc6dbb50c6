-- Nothing but an answer.
-- Try it: psql "$NEON_DATABASE_URL" -f sql/ready.sql
SELECT true;
