-- Creates a task.
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -v body='{"title": "Buy milk"}' -f sql/create_task.sql
WITH task AS (
    INSERT INTO tasks (user_id, title, description, completed)
    VALUES (
        :'user_id',
        :'body'::jsonb ->> 'title',
        :'body'::jsonb ->> 'description',
        coalesce((:'body'::jsonb ->> 'completed')::boolean, false)
    )
    RETURNING id, user_id, title, description, completed, created_at, updated_at
)
SELECT row_to_json(task)::text AS task, id FROM task;
