-- The tasks of a user, sorted by title or last change, as one JSON array; with a limit also the last id of the page, if a next one follows.
-- `tag` stands for what the list holds, its order apart; when if_none_match names it ('*': any), `tasks` is null and no JSON is made.
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -v status=all -v search= -v sort=title -v order=asc -v offset=0 -v limit= -v if_none_match= -f sql/list_tasks_sorted.sql
-- Plan: one range of tasks_pkey, sorted: no index serves these orders, since one would slow down every write.
WITH page AS (
    SELECT tasks.id, version, task
    FROM tasks CROSS JOIN LATERAL (SELECT id, user_id, title, description, completed, created_at, updated_at) AS task
    WHERE tasks.user_id = :'user_id'
      AND (:'status' = 'all' OR tasks.completed = (:'status' = 'completed'))
      AND (:'search' = '' OR strpos(lower(tasks.title), lower(:'search')) > 0 OR strpos(lower(tasks.description), lower(:'search')) > 0)
    ORDER BY
        CASE WHEN :'sort' = 'title' AND :'order' = 'asc' THEN tasks.title END COLLATE "C",
        CASE WHEN :'sort' = 'title' AND :'order' = 'desc' THEN tasks.title END COLLATE "C" DESC,
        CASE WHEN :'sort' = 'updated_at' AND :'order' = 'asc' THEN tasks.updated_at END,
        CASE WHEN :'sort' = 'updated_at' AND :'order' = 'desc' THEN tasks.updated_at END DESC,
        CASE WHEN :'order' = 'asc' THEN tasks.id END,
        tasks.id DESC
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
