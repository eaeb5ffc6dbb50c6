-- Creates a task with an idempotency key. If the user has used the key before, `replayed` is true, and `same_body` says whether
-- the body is the same as that of the first request with this key. If it is, `task` is the same as in the first response. It is
-- built from the body of this request, because the stored task may have changed since. `attempt` is a random id of this request.
-- If idempotency_attempt of the row equals it, this request created the task. If not, an earlier request did.
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -v body='{"title": "Buy milk"}' -v idempotency_key=k1 -v attempt=1 -f sql/create_task_once.sql
WITH created AS (
    INSERT INTO tasks (user_id, title, description, completed, idempotency_key, idempotency_attempt, body_md5)
    VALUES (
        :'user_id',
        :'body'::jsonb ->> 'title',
        :'body'::jsonb ->> 'description',
        coalesce((:'body'::jsonb ->> 'completed')::boolean, false),
        :'idempotency_key',
        :'attempt',
        md5(:'body'::jsonb::text)
    )
    -- This update changes nothing. It waits for a concurrent request that uses the same key, and returns that request's row.
    ON CONFLICT (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL
    DO UPDATE SET idempotency_key = excluded.idempotency_key
    RETURNING id, user_id, created_at, idempotency_attempt, body_md5
)
SELECT
    row_to_json(task)::text AS task,
    (extract(epoch FROM task.created_at) * 1000000)::bigint AS version,
    task.id,
    idempotency_attempt <> :'attempt' AS replayed,
    body_md5 = md5(:'body'::jsonb::text) AS same_body
FROM created CROSS JOIN LATERAL (
    SELECT
        id,
        user_id,
        :'body'::jsonb ->> 'title' AS title,
        :'body'::jsonb ->> 'description' AS description,
        coalesce((:'body'::jsonb ->> 'completed')::boolean, false) AS completed,
        created_at,
        created_at AS updated_at
) AS task;
