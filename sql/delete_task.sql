-- Deletes a task if its version is in if_match ('*' matches every version). Otherwise `id` is null, and `version` is the version
-- of the stored task. If another request has just changed the task, its new version is not visible here, and `version` is null.
-- No row if the user has no such task.
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -v task_id=1 -v if_match='*' -f sql/delete_task.sql
WITH deleted AS (
    DELETE FROM tasks
    WHERE user_id = :'user_id' AND id = :'task_id'::bigint
      AND (:'if_match' = '*' OR (extract(epoch FROM updated_at AT TIME ZONE 'UTC') * 1000000)::bigint::text = ANY (string_to_array(:'if_match', ',')))
    RETURNING id
)
SELECT id::text, NULL AS version FROM deleted
UNION ALL
SELECT NULL, CASE WHEN version::text <> ALL (string_to_array(:'if_match', ',')) THEN version END
FROM (
    SELECT (extract(epoch FROM updated_at) * 1000000)::bigint AS version
    FROM tasks
    WHERE user_id = :'user_id' AND id = :'task_id'::bigint AND :'if_match' <> '*' AND NOT EXISTS (SELECT FROM deleted)
) AS unchanged;
