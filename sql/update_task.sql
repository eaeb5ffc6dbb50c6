-- Changes the fields that the body names: null clears the description and leaves the others as they are.
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -v task_id=1 -v body='{"title": "Buy bread"}' -f sql/update_task.sql
WITH task AS (
    UPDATE tasks
    SET title = coalesce(:'body'::jsonb ->> 'title', title),
        description = CASE WHEN :'body'::jsonb ? 'description' THEN :'body'::jsonb ->> 'description' ELSE description END,
        completed = coalesce((:'body'::jsonb ->> 'completed')::boolean, completed),
        updated_at = greatest(now(), updated_at)
    WHERE user_id = :'user_id' AND id = :'task_id'::bigint
    RETURNING id, user_id, title, description, completed, created_at, updated_at
)
SELECT row_to_json(task)::text AS task FROM task;
