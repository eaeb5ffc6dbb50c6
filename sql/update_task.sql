-- Changes the fields that the body names: null clears the description and leaves the others as they are. Only a version that
-- if_match names is changed ('*': any); if the task has another one, `task` is null.
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -v task_id=1 -v if_match='*' -v body='{"title": "Rye"}' -f sql/update_task.sql
WITH changed AS (
    UPDATE tasks
    SET title = coalesce(:'body'::jsonb ->> 'title', title),
        description = CASE WHEN :'body'::jsonb ? 'description' THEN :'body'::jsonb ->> 'description' ELSE description END,
        completed = coalesce((:'body'::jsonb ->> 'completed')::boolean, completed),
        updated_at = greatest(now(), updated_at),
        version = version + 1
    WHERE user_id = :'user_id' AND id = :'task_id'::bigint
      AND (:'if_match' = '*' OR version::text = ANY (string_to_array(:'if_match', ',')))
    RETURNING id, user_id, title, description, completed, created_at, updated_at, version
)
SELECT row_to_json(task)::text AS task, version
FROM changed CROSS JOIN LATERAL (SELECT id, user_id, title, description, completed, created_at, updated_at) AS task
UNION ALL
SELECT NULL, version
FROM tasks
WHERE user_id = :'user_id' AND id = :'task_id'::bigint AND :'if_match' <> '*' AND NOT EXISTS (SELECT FROM changed);
