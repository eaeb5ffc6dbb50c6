-- The tasks of a user, oldest first, as one JSON array; with a limit also the id after which the next page begins, if there is one.
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -v status=all -v search= -v after= -v offset=0 -v limit= -f sql/list_tasks.sql
-- Plan: one range of tasks_pkey in its own order. The limit stands in a subquery so that the planner, which cannot look into it,
-- expects few rows and does not sort: the work is the same for page 1 and page 10,000.
WITH page AS NOT MATERIALIZED (
    SELECT id, user_id, title, description, completed, created_at, updated_at
    FROM tasks
    WHERE user_id = :'user_id'
      AND id > coalesce(nullif(:'after', '')::bigint, 0)
      AND (:'status' = 'all' OR completed = (:'status' = 'completed'))
      AND (:'search' = '' OR strpos(lower(title), lower(:'search')) > 0 OR strpos(lower(description), lower(:'search')) > 0)
    ORDER BY user_id, id
    OFFSET :'offset'::bigint
    LIMIT (SELECT nullif(:'limit', '')::bigint + 1)
)
SELECT
    array_to_json(array(SELECT page FROM page LIMIT nullif(:'limit', '')::bigint))::text AS tasks,
    CASE WHEN :'limit' <> '' AND EXISTS (SELECT FROM page OFFSET nullif(:'limit', '')::bigint)
        THEN (SELECT id FROM page OFFSET nullif(:'limit', '')::bigint - 1 LIMIT 1)
    END AS last_id;
