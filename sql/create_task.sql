-- Creates a task. With an idempotency key that the user has used before, the first answer comes back instead: `replayed` says so,
-- and `same` whether the body is the same. So the task is told as the body says, whatever has become of it since.
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
    RETURNING id, user_id, created_at, body_md5
)
SELECT
    row_to_json(task)::text AS task,
    1 AS version,
    task.id,
    task.created_at <> now() AS replayed,
    coalesce(body_md5 = md5(:'body'::jsonb::text), true) AS same
FROM made CROSS JOIN LATERAL (
    SELECT
        id,
        user_id,
        :'body'::jsonb ->> 'title' AS title,
        :'body'::jsonb ->> 'description' AS description,
        coalesce((:'body'::jsonb ->> 'completed')::boolean, false) AS completed,
        created_at,
        created_at AS updated_at
) AS task;
