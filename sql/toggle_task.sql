-- Sets a task's completion to what the body says, or flips it when the body does not say.
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -v task_id=1 -v body='{}' -f sql/toggle_task.sql
WITH task AS (
    UPDATE tasks
    SET completed = coalesce((:'body'::jsonb ->> 'completed')::boolean, NOT completed),
        updated_at = greatest(now(), updated_at)
    WHERE user_id = :'user_id' AND id = :'task_id'::bigint
    RETURNING id, user_id, title, description, completed, created_at, updated_at
)
SELECT row_to_json(task)::text AS task FROM task;
