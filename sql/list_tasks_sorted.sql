-- Returns the tasks of a user as one JSON array, sorted by title or time of the last change. With a limit, last_id is the id of
-- the last task of the page if there is a next page. `search` ignores case, and finds text in composed and in decomposed Unicode
-- (NFC and NFD).
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -v status=all -v search= -v sort=title -v order=asc -v offset=0 -v limit= -f sql/list_tasks_sorted.sql
-- Plan: all tasks of the user through tasks_pkey, then a sort. A user who has a large part of all tasks gets a sequential scan.
-- There is no index for these orders, because it would slow down every write.
WITH page AS (
    SELECT id, task
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
    SELECT array_agg(task) AS tasks, array_agg(id) AS ids, count(*)::int AS count FROM page
)
SELECT
    coalesce(array_to_json(CASE WHEN count > nullif(:'limit', '')::int THEN trim_array(tasks, 1) ELSE tasks END)::text, '[]') AS tasks,
    CASE WHEN count > nullif(:'limit', '')::int THEN ids[nullif(:'limit', '')::int] END AS last_id
FROM result;
