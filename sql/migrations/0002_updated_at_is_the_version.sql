-- `updated_at` strictly increases with every change, so it serves as the version of a task, and `version` is no longer needed.
-- The view has exactly the fields of a Task in the API. SELECT statements use this view, so they do not list the columns again.
-- idempotency_attempt distinguishes the request that created a task from its retries.
-- Nothing was released before this file, so it may drop a column at once.
ALTER TABLE tasks DROP COLUMN version;
ALTER TABLE tasks ADD COLUMN idempotency_attempt text;

CREATE VIEW api_tasks AS
SELECT id, user_id, title, description, completed, created_at, updated_at FROM tasks;

COMMENT ON VIEW api_tasks IS 'The fields of a Task as the API returns them';
COMMENT ON COLUMN tasks.updated_at IS 'Time of the last change; strictly increases with every change';
COMMENT ON COLUMN tasks.idempotency_attempt IS 'Random id of the request that created the task with an Idempotency-Key';
