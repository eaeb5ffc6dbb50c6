-- Returns the tasks of a user as one JSON array, oldest first. With a limit, last_id is the id of the last task of the page if
-- there is a next page. `search` ignores case, and finds text in composed and in decomposed Unicode (NFC and NFD).
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -v status=all -v search= -v after= -v offset=0 -v limit= -f sql/list_tasks.sql
-- Plan: one range of tasks_pkey, already in order. The limit is in a subquery, which hides its value from the planner. So the planner
-- expects few rows and reads them in the order of the key instead of sorting. With `after`, the first page and page 10,000 cost the same.
WITH page AS (
    SELECT id, task
    FROM api_tasks AS task
    WHERE user_id = :'user_id'
      AND id > coalesce(nullif(:'after', '')::bigint, 0)
      AND (:'status' = 'all' OR completed = (:'status' = 'completed'))
      AND (
          :'search' = ''
          OR strpos(replace(lower(title), 'ς', 'σ'), (SELECT replace(lower(normalize(:'search', NFC)), 'ς', 'σ'))) > 0
          OR strpos(replace(lower(title), 'ς', 'σ'), (SELECT replace(lower(normalize(:'search', NFD)), 'ς', 'σ'))) > 0
          OR strpos(replace(lower(description), 'ς', 'σ'), (SELECT replace(lower(normalize(:'search', NFC)), 'ς', 'σ'))) > 0
          OR strpos(replace(lower(description), 'ς', 'σ'), (SELECT replace(lower(normalize(:'search', NFD)), 'ς', 'σ'))) > 0
      )
    ORDER BY user_id, id
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
