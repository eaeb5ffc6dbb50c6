-- Prints all tasks of a user as one JSON array, as the API returns them. For requests under data protection law.
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -f sql/admin/export_user.sql
\if :{?user_id}
SELECT coalesce(json_agg(task ORDER BY id), '[]') FROM api_tasks AS task WHERE user_id = :'user_id'
\g (format=unaligned tuples_only=on)
\else
\warn 'user_id is missing: add -v user_id=alice'
\endif
