-- Copies the tasks of the FastAPI backend from its table `task` into `tasks`, as they are; times without a zone are taken as UTC.
-- Try it: psql "$NEON_DATABASE_URL" -f sql/legacy/import_tasks.sql
--
-- If the import fails, it changes nothing. It only reads the old table. While it runs, writes to `tasks` wait: 2 s for 100,000
-- tasks. You can run this file again. It then copies the rows that are new in the old table, and updates tasks that have changed
-- only in the old table. It does not touch tasks that were created, changed or deleted in `tasks`. Tasks that were deleted from
-- the old table stay in `tasks`, and the output lists them. The table `imported_tasks` records what was copied: drop it when you
-- drop the old table.
--
-- The file also lists the tasks that it cannot copy. Correct them in the old table and run the file again, for instance:
--   UPDATE task SET title = 'Untitled' WHERE btrim(coalesce(title, ''), E' \t\r\n') = '';
--   UPDATE task SET description = concat_ws(E'\n', title, description), title = left(title, 200) WHERE char_length(title) > 200;
--   UPDATE task SET description = left(description, 1000) WHERE char_length(description) > 1000;
--   UPDATE task SET completed = false WHERE completed IS NULL;
--   UPDATE task SET created_at = coalesce(updated_at, now() AT TIME ZONE 'UTC') WHERE created_at IS NULL;
--   UPDATE task SET updated_at = created_at WHERE updated_at IS NULL;
--   UPDATE task SET user_id = 'their owner' WHERE char_length(coalesce(user_id, '')) NOT BETWEEN 1 AND 255;
--   UPDATE task SET id = nextval(pg_get_serial_sequence('tasks', 'id')) WHERE id = 7;
-- A task is not copied if it has changed in the old table and was also changed in `tasks` or deleted from `tasks`. To copy it, delete it
-- from `tasks`, delete its row in `imported_tasks`, and run this file again:
--   DELETE FROM imported_tasks WHERE id = 7;
--
-- To roll back, start the old backend. These statements copy tasks back to the old table if they were created in `tasks`. They do
-- not copy changes to imported tasks:
--   SET TimeZone = 'UTC';
--   INSERT INTO task (id, user_id, title, description, completed, created_at, updated_at)
--   SELECT id, user_id, title, description, completed, created_at, updated_at
--   FROM tasks LEFT JOIN imported_tasks USING (user_id, id) WHERE content IS NULL;
--   SELECT setval(pg_get_serial_sequence('task', 'id'), max(id)) FROM task;
--
-- If the old table is in another database, first run: pg_dump "$OLD_DATABASE_URL" -O -x -t task | psql "$NEON_DATABASE_URL"
-- If the old table has another name, add -v source=NAME. If its name is `tasks`, move it before you run `flask migrate`, and add
-- -v source=old.tasks:
--   CREATE SCHEMA old; ALTER TABLE tasks SET SCHEMA old;
\set ON_ERROR_STOP on
\set QUIET on
\if :{?source}
\else
    \set source task
\endif

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = 0;
SET LOCAL TimeZone = 'UTC';  -- in which naive times become absolute ones
LOCK TABLE tasks IN SHARE ROW EXCLUSIVE MODE;

CREATE TABLE IF NOT EXISTS imported_tasks (user_id text, id bigint, content text NOT NULL, PRIMARY KEY (user_id, id));
COMMENT ON TABLE imported_tasks IS 'MD5 of what import_tasks.sql copied, so that a later run finds the tasks that have changed since';

CREATE TEMPORARY TABLE found ON COMMIT DROP AS
WITH old AS (
    SELECT id, user_id, title, description, completed, created_at::timestamptz, updated_at::timestamptz FROM :source
)
SELECT
    old.*,
    new.content,
    CASE
        WHEN fault IS NOT NULL THEN 'left out'
        WHEN current.content = new.content THEN 'already in tasks'
        WHEN current.content IS NULL AND copy.content IS NULL THEN 'copied'
        WHEN current.content = copy.content AND current.updated_at < old.updated_at THEN 'updated'
        WHEN current.content IS NULL AND copy.content = new.content THEN 'deleted from tasks'
        WHEN copy.content = new.content THEN 'changed in tasks'
        ELSE 'left out'
    END AS verdict,
    coalesce(
        fault,
        CASE
            WHEN copy.content IS NULL THEN 'another task of the user has this id in tasks'
            WHEN current.content IS NULL THEN 'changed in the old table, but deleted from tasks'
            WHEN current.content <> copy.content THEN 'changed in the old table and in tasks'
            ELSE 'changed in the old table, but not later than in tasks'
        END
    ) AS reason
FROM old
CROSS JOIN LATERAL (SELECT md5(json_build_array(title, description, completed, created_at, updated_at)::text)) AS new (content)
CROSS JOIN LATERAL (
    SELECT string_agg(rule, ', ')
    FROM (VALUES
        ('id below 1 or over 2^53', id BETWEEN 1 AND 9007199254740991),
        ('user_id missing, empty or over 255 characters', char_length(user_id) BETWEEN 1 AND 255),
        ('title missing or blank', btrim(title, E' \t\r\n') <> ''),
        ('title over 200 characters', char_length(coalesce(title, '')) <= 200),
        ('description over 1000 characters', char_length(coalesce(description, '')) <= 1000),
        ('completed missing', completed IS NOT NULL),
        ('created_at missing or infinite', isfinite(created_at)),
        ('updated_at missing or infinite', isfinite(updated_at))
    ) AS rules (rule, kept)
    WHERE kept IS NOT TRUE
) AS faults (fault)
LEFT JOIN imported_tasks AS copy USING (user_id, id)
LEFT JOIN (
    SELECT user_id, id, updated_at, md5(json_build_array(title, description, completed, created_at, updated_at)::text) AS content
    FROM tasks
) AS current USING (user_id, id);

INSERT INTO tasks (id, user_id, title, description, completed, created_at, updated_at)
SELECT id, user_id, title, description, completed, created_at, updated_at
FROM found
WHERE verdict IN ('copied', 'updated')
ORDER BY user_id, id
ON CONFLICT (user_id, id) DO UPDATE
SET title = excluded.title, description = excluded.description, completed = excluded.completed,
    created_at = excluded.created_at, updated_at = excluded.updated_at;

INSERT INTO imported_tasks (user_id, id, content)
SELECT user_id, id, content
FROM found
WHERE verdict IN ('copied', 'updated', 'already in tasks')
ON CONFLICT (user_id, id) DO UPDATE SET content = excluded.content WHERE imported_tasks.content <> excluded.content;

-- New ids also skip those of tasks that were left out, so that these tasks can be copied after you correct them.
SELECT setval(sequence, greatest(nextval(sequence), (SELECT max(id) FROM found WHERE id <= 9007199254740991)))
FROM pg_get_serial_sequence('tasks', 'id') AS sequence
\gset

SELECT
    count(*) AS "read",
    count(*) FILTER (WHERE verdict = 'copied') AS "copied",
    count(*) FILTER (WHERE verdict = 'updated') AS "updated",
    count(*) FILTER (WHERE verdict = 'already in tasks') AS "already in tasks",
    count(*) FILTER (WHERE verdict = 'changed in tasks') AS "changed in tasks",
    count(*) FILTER (WHERE verdict = 'deleted from tasks') AS "deleted from tasks",
    count(*) FILTER (WHERE verdict = 'left out') AS "left out"
FROM found;

SELECT id, user_id, reason AS note FROM found WHERE verdict = 'left out'
UNION ALL
SELECT id, user_id, 'deleted from the old table, still in tasks'
FROM imported_tasks
JOIN tasks USING (user_id, id)
LEFT JOIN found USING (user_id, id)
WHERE found.id IS NULL
UNION ALL
SELECT NULL, NULL, format('tasks has no column for %I', attname)
FROM pg_attribute
WHERE attrelid = :'source'::regclass AND attnum > 0 AND NOT attisdropped
  AND attname NOT IN ('id', 'user_id', 'title', 'description', 'completed', 'created_at', 'updated_at')
ORDER BY id, user_id;
COMMIT;
