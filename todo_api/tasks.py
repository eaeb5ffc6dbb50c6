"""The six operations on a user's tasks."""

import re
import uuid
from typing import Any
from urllib.parse import quote, urlencode

from flask import Blueprint, Response, abort, jsonify, request
from werkzeug.routing import BaseConverter

from todo_api import db
from todo_api.app import ApiResponse
from todo_api.auth import login_required
from todo_api.etags import conditional, if_match, task_etag
from todo_api.headers import no_content
from todo_api.validation import read_body, read_parameters

LIST_BY_ORDER = {"asc": "list_tasks", "desc": "list_tasks_newest_first"}  # for lists sorted by time of creation, that is, by id

Row = tuple[Any, ...]

bp = Blueprint("tasks", __name__, url_prefix="/api/<user_id>/tasks")


class TaskId(BaseConverter):
    """Converts a task id in a path. An invalid id becomes "0", which no task has.

    So the route still matches, and the token is checked before the response is a 404.
    """

    def to_python(self, value: str) -> str:
        return value if re.fullmatch("[1-9][0-9]{0,15}", value) else "0"


@bp.post("")
@login_required
def create_task() -> Response:
    task_body = read_body("create_task")
    key = read_parameters("create_task")["idempotency_key"]
    if not key:
        task, version, task_id = db.execute("create_task", {"body": task_body})
        replayed = False
    else:
        # The statement waits for other requests with the same key. It stores `attempt` with a new task. If another one is stored,
        # an earlier request created the task.
        values = {"body": task_body, "idempotency_key": key, "attempt": uuid.uuid4().hex}
        task, version, task_id, replayed, same_body = db.execute("create_task_once", values, may_block=True)
        if not same_body:
            message = "was used with another body"
            abort(422, [{"loc": ["header", "Idempotency-Key"], "msg": message, "type": "idempotency"}])
    response = json_response(task, version, 201)
    response.headers["Location"] = f"{collection_path()}/{task_id}"
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return response


@bp.get("")
@login_required
def list_tasks() -> Response:
    values = read_parameters("list_tasks")
    name = LIST_BY_ORDER[values["order"]] if values["sort"] == "created_at" else "list_tasks_sorted"
    tasks, last_id = db.execute(name, values)
    response = ApiResponse(tasks, content_type="application/json")
    response.add_etag()
    if last_id:
        response.headers["Link"] = f'<{next_page(values, last_id)}>; rel="next"'
    return conditional(response)


@bp.get("/<task_id:task_id>")
@login_required
def get_task(task_id: str) -> Response:
    return conditional(json_response(*row_or_abort(db.execute("get_task", {"task_id": task_id}))))


@bp.put("/<task_id:task_id>")
@login_required
def update_task(task_id: str) -> Response:
    return change_task({"task_id": task_id, "body": read_body("update_task"), "flip": "false"})


@bp.patch("/<task_id:task_id>/complete")
@login_required
def toggle_task(task_id: str) -> Response:
    return change_task({"task_id": task_id, "body": read_body("toggle_task"), "flip": "true"})


@bp.delete("/<task_id:task_id>")
@login_required
def delete_task(task_id: str) -> Response:
    row_or_abort(db.execute("delete_task", {"task_id": task_id, "if_match": if_match()}, may_block=True))
    return no_content()


def change_task(values: dict[str, str]) -> Response:
    row = db.execute("update_task", {**values, "if_match": if_match()}, may_block=True)
    return json_response(*row_or_abort(row))


def json_response(task: str, version: object, status: int = 200) -> Response:
    return ApiResponse(task, status, {"ETag": task_etag(version)}, content_type="application/json")


def row_or_abort(row: Row) -> Row:
    """Return the row (JSON, version). Abort with 404 if it is empty, and with 412 if the JSON is null, because If-Match failed.

    The version of a 412 is null if another request has just changed the task.
    """
    task, version = row or abort(404, "Task not found")
    if task is None:
        response = jsonify(detail="Task has changed since")
        response.status_code = 412
        if version:
            response.headers["ETag"] = task_etag(version)
        abort(response)
    return task, version


def next_page(values: dict[str, str], last_id: int) -> str:
    """Return the path of the next page (RFC 8288). Pages sorted by id continue after last_id, other pages by offset."""
    step = {"after": last_id} if values["sort"] == "created_at" else {"offset": int(values["offset"]) + int(values["limit"])}
    kept = {name: value for name, value in request.args.items() if name not in ("after", "offset")}
    return f"{collection_path()}?{urlencode({**kept, **step})}"


def collection_path() -> str:
    """Return the path of this request, percent-encoded, without a trailing slash. Only for requests to the list's path."""
    return quote(request.root_path + request.path.rstrip("/"), safe="/@:!$&'()*+,;=")
