-- The tasks of a user, sorted by title or last change, as one JSON array; with a limit also the last id of the page, if a next one follows.
-- Try it: psql "$NEON_DATABASE_URL" -v user_id=alice -v status=all -v search= -v sort=title -v order=asc -v offset=0 -v limit= -f sql/list_tasks_sorted.sql
-- Plan: one range of tasks_pkey, sorted: no index serves these orders, since one would slow down every write.
WITH page AS NOT MATERIALIZED (
    SELECT id, user_id, title, description, completed, created_at, updated_at
    FROM tasks
    WHERE user_id = :'user_id'
      AND (:'status' = 'all' OR completed = (:'status' = 'completed'))
      AND (:'search' = '' OR strpos(lower(title), lower(:'search')) > 0 OR strpos(lower(description), lower(:'search')) > 0)
    ORDER BY
        CASE WHEN :'sort' = 'title' AND :'order' = 'asc' THEN title END COLLATE "C",
        CASE WHEN :'sort' = 'title' AND :'order' = 'desc' THEN title END COLLATE "C" DESC,
        CASE WHEN :'sort' = 'updated' AND :'order' = 'asc' THEN updated_at END,
        CASE WHEN :'sort' = 'updated' AND :'order' = 'desc' THEN updated_at END DESC,
        CASE WHEN :'order' = 'asc' THEN id END,
        id DESC
    OFFSET :'offset'::bigint
    LIMIT (SELECT nullif(:'limit', '')::bigint + 1)
)
SELECT
    array_to_json(array(SELECT page FROM page LIMIT nullif(:'limit', '')::bigint))::text AS tasks,
    CASE WHEN :'limit' <> '' AND EXISTS (SELECT FROM page OFFSET nullif(:'limit', '')::bigint)
        THEN (SELECT id FROM page OFFSET nullif(:'limit', '')::bigint - 1 LIMIT 1)
    END AS last_id;
