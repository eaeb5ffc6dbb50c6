-- Returns the tasks of a user as one JSON array, newest first. With a limit, last_id is the id of the last task of the page if
-- there is a next page. `search` ignores case, and finds text in composed and in decomposed Unicode (NFC and NFD).
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -v status=all -v search= -v after= -v offset=0 -v limit= -f sql/list_tasks_newest_first.sql
-- Plan: like list_tasks.sql, backwards.
WITH page AS (
    SELECT id, task
    FROM api_tasks AS task
    WHERE user_id = :'user_id'
      AND id < coalesce(nullif(:'after', '')::bigint, 9223372036854775807)
      AND (:'status' = 'all' OR completed = (:'status' = 'completed'))
      AND (
          :'search' = ''
          OR strpos(replace(lower(title), 'ς', 'σ'), (SELECT replace(lower(normalize(:'search', NFC)), 'ς', 'σ'))) > 0
          OR strpos(replace(lower(title), 'ς', 'σ'), (SELECT replace(lower(normalize(:'search', NFD)), 'ς', 'σ'))) > 0
          OR strpos(replace(lower(description), 'ς', 'σ'), (SELECT replace(lower(normalize(:'search', NFC)), 'ς', 'σ'))) > 0
          OR strpos(replace(lower(description), 'ς', 'σ'), (SELECT replace(lower(normalize(:'search', NFD)), 'ς', 'σ'))) > 0
      )
    ORDER BY user_id DESC, id DESC
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
