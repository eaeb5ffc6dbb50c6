-- The tasks of a user, oldest first, as one JSON array; with a limit also the id after which the next page begins, if there is one.
-- `tag` stands for what the list holds, its order apart; when if_none_match names it ('*': any), `tasks` is null and no JSON is made.
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -v status=all -v search= -v after= -v offset=0 -v limit= -v if_none_match= -f sql/list_tasks.sql
-- Plan: one range of tasks_pkey in its own order. The limit stands in a subquery so that the planner, which cannot look into it,
-- expects few rows and does not sort: the work is the same for page 1 and page 10,000.
WITH page AS (
    SELECT tasks.id, version, task
    FROM tasks CROSS JOIN LATERAL (SELECT id, user_id, title, description, completed, created_at, updated_at) AS task
    WHERE tasks.user_id = :'user_id'
      AND tasks.id > coalesce(nullif(:'after', '')::bigint, 0)
      AND (:'status' = 'all' OR tasks.completed = (:'status' = 'completed'))
      AND (:'search' = '' OR strpos(lower(tasks.title), lower(:'search')) > 0 OR strpos(lower(tasks.description), lower(:'search')) > 0)
    ORDER BY tasks.user_id, tasks.id
    OFFSET :'offset'::bigint
    LIMIT (SELECT nullif(:'limit', '')::bigint + 1)
),
read AS (
    SELECT
        array_agg(task) AS tasks,
        array_agg(id) AS ids,
        count(id)::int AS count,
        concat_ws('-', count(id), bit_xor(hashint8extended(id, version))) AS tag
    FROM page
)
SELECT
    CASE WHEN :'if_none_match' <> '*' AND tag <> ALL (string_to_array(:'if_none_match', ','))
        THEN coalesce(array_to_json(CASE WHEN count > nullif(:'limit', '')::int THEN trim_array(tasks, 1) ELSE tasks END)::text, '[]')
    END AS tasks,
    tag,
    CASE WHEN count > nullif(:'limit', '')::int THEN ids[nullif(:'limit', '')::int] END AS last_id
FROM read;
