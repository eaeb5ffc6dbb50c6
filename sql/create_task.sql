-- Creates a task.
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -v body='{"title": "Buy milk"}' -f sql/create_task.sql
WITH created AS (
    INSERT INTO tasks (user_id, title, description, completed)
    VALUES (
        :'user_id',
        :'body'::json ->> 'title',
        :'body'::json ->> 'description',
        coalesce((:'body'::json ->> 'completed')::boolean, false)
    )
    RETURNING id, user_id, title, description, completed, created_at, updated_at
)
SELECT row_to_json(created)::text AS task, (extract(epoch FROM updated_at) * 1000000)::bigint AS version, id
FROM created;
