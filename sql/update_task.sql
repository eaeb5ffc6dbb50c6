-- Changes the fields that the body names. A null clears `description`. For any other field, a null leaves that field unchanged.
-- With flip = true, `completed` is negated unless the body sets it. The task changes only if its version is in if_match ('*'
-- matches every version). Otherwise `task` is null, and `version` is the version of the stored task. If another request has just
-- changed the task, its new version is not visible here, and `version` is null. No row if the user has no such task.
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -v task_id=1 -v if_match='*' -v flip=false -v body='{"title": "Rye"}' -f sql/update_task.sql
WITH changed AS (
    UPDATE tasks
    SET title = coalesce(:'body'::jsonb ->> 'title', title),
        description = CASE WHEN :'body'::jsonb ? 'description' THEN :'body'::jsonb ->> 'description' ELSE description END,
        completed = coalesce((:'body'::jsonb ->> 'completed')::boolean, completed <> :'flip'::boolean),
        -- Later than before, even if another change has the same time. On Citus, functions of a column must be immutable, and
        -- timestamptz + interval is not, so the addition is in UTC.
        updated_at = greatest(now(), (updated_at AT TIME ZONE 'UTC' + interval '1 microsecond') AT TIME ZONE 'UTC')
    WHERE user_id = :'user_id' AND id = :'task_id'::bigint
      AND (:'if_match' = '*' OR (extract(epoch FROM updated_at AT TIME ZONE 'UTC') * 1000000)::bigint::text = ANY (string_to_array(:'if_match', ',')))
    RETURNING id, user_id, title, description, completed, created_at, updated_at
)
SELECT row_to_json(changed)::text AS task, (extract(epoch FROM updated_at) * 1000000)::bigint AS version
FROM changed
UNION ALL
SELECT NULL, CASE WHEN version::text <> ALL (string_to_array(:'if_match', ',')) THEN version END
FROM (
    SELECT (extract(epoch FROM updated_at) * 1000000)::bigint AS version
    FROM tasks
    WHERE user_id = :'user_id' AND id = :'task_id'::bigint AND :'if_match' <> '*' AND NOT EXISTS (SELECT FROM changed)
) AS unchanged;
