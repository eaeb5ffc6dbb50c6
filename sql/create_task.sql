-- Creates a task. With an idempotency key that the user has used before, the task of that time comes back instead: `replayed` says
-- so, and `same` whether it was made from the same body.
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -v body='{"title": "Buy milk"}' -v idempotency_key= -f sql/create_task.sql
WITH made AS (
    INSERT INTO tasks (user_id, title, description, completed, idempotency_key, body_md5)
    VALUES (
        :'user_id',
        :'body'::jsonb ->> 'title',
        :'body'::jsonb ->> 'description',
        coalesce((:'body'::jsonb ->> 'completed')::boolean, false),
        nullif(:'idempotency_key', ''),
        CASE WHEN :'idempotency_key' <> '' THEN md5(:'body'::jsonb::text) END
    )
    -- Setting the key to itself changes nothing, but waits for a request that is making the task just now, and returns it.
    ON CONFLICT (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL
    DO UPDATE SET idempotency_key = excluded.idempotency_key
    RETURNING id, user_id, title, description, completed, created_at, updated_at, version, body_md5
)
SELECT
    row_to_json(task)::text AS task,
    version,
    task.id,
    task.created_at <> now() AS replayed,
    coalesce(body_md5 = md5(:'body'::jsonb::text), true) AS same
FROM made CROSS JOIN LATERAL (SELECT id, user_id, title, description, completed, created_at, updated_at) AS task;
