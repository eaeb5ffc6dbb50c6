-- Returns the tasks of a user as one JSON array, sorted by title or time of the last change. With a limit, last_id is the id of
-- the last task of the page if there is a next page. `version` is a hash of `id` and `updated_at` of all tasks of the page. If
-- if_none_match contains it ('*' matches all), `tasks` is null and no JSON is made. `search` ignores case. The stored text may
-- contain it in composed or decomposed Unicode (NFC or NFD).
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -v status=all -v search= -v sort=title -v order=asc -v offset=0 -v limit= -v if_none_match= -f sql/list_tasks_sorted.sql
-- Plan: all tasks of the user through tasks_pkey, then a sort. A user who has a large part of all tasks gets a sequential scan. No index
-- serves these orders, because it would slow down every write.
WITH page AS (
    SELECT id, updated_at, task
    FROM api_tasks AS task
    WHERE user_id = :'user_id'
      AND (:'status' = 'all' OR completed = (:'status' = 'completed'))
      AND (
          :'search' = ''
          OR strpos(replace(lower(title), 'ς', 'σ'), (SELECT replace(lower(normalize(:'search', NFC)), 'ς', 'σ'))) > 0
          OR strpos(replace(lower(title), 'ς', 'σ'), (SELECT replace(lower(normalize(:'search', NFD)), 'ς', 'σ'))) > 0
          OR strpos(replace(lower(description), 'ς', 'σ'), (SELECT replace(lower(normalize(:'search', NFC)), 'ς', 'σ'))) > 0
          OR strpos(replace(lower(description), 'ς', 'σ'), (SELECT replace(lower(normalize(:'search', NFD)), 'ς', 'σ'))) > 0
      )
    ORDER BY
        CASE WHEN :'sort' = 'title' AND :'order' = 'asc' THEN title END COLLATE "C",
        CASE WHEN :'sort' = 'title' AND :'order' = 'desc' THEN title END COLLATE "C" DESC,
        CASE WHEN :'sort' = 'updated_at' AND :'order' = 'asc' THEN updated_at END,
        CASE WHEN :'sort' = 'updated_at' AND :'order' = 'desc' THEN updated_at END DESC,
        CASE WHEN :'order' = 'asc' THEN id END,
        id DESC
    OFFSET :'offset'::bigint
    LIMIT (SELECT nullif(:'limit', '')::bigint + 1)
),
result AS (
    SELECT
        array_agg(task) AS tasks,
        array_agg(id) AS ids,
        count(*)::int AS count,
        md5(coalesce(string_agg(int8send(id) || timestamptz_send(updated_at), ''), '')) AS version
    FROM page
)
SELECT
    CASE WHEN :'if_none_match' <> '*' AND version <> ALL (string_to_array(:'if_none_match', ','))
        THEN coalesce(array_to_json(CASE WHEN count > nullif(:'limit', '')::int THEN trim_array(tasks, 1) ELSE tasks END)::text, '[]')
    END AS tasks,
    version,
    CASE WHEN count > nullif(:'limit', '')::int THEN ids[nullif(:'limit', '')::int] END AS last_id
FROM result;
