-- Deletes a task. Only a version that if_match names is deleted ('*': any); if the task has another one, `id` is null. No row when
-- the user has no such task.
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -v task_id=1 -v if_match='*' -f sql/delete_task.sql
WITH deleted AS (
    DELETE FROM tasks
    WHERE user_id = :'user_id' AND id = :'task_id'::bigint
      AND (:'if_match' = '*' OR version::text = ANY (string_to_array(:'if_match', ',')))
    RETURNING id, version
)
SELECT id, version FROM deleted
UNION ALL
SELECT NULL, version
FROM tasks
WHERE user_id = :'user_id' AND id = :'task_id'::bigint AND :'if_match' <> '*' AND NOT EXISTS (SELECT FROM deleted);
