"""The six operations on a user's tasks."""

import re
from urllib.parse import urlencode

from flask import Blueprint, Response, abort, g, request, url_for
from werkzeug.routing import BaseConverter

from todo_api import db
from todo_api.app import TaskResponse
from todo_api.auth import login_required
from todo_api.headers import cacheable
from todo_api.statements import Row
from todo_api.validation import body, parameters

bp = Blueprint("tasks", __name__, url_prefix="/api/<user_id>/tasks")


class TaskId(BaseConverter):
    """A task id in a path. Text that no task can have as its id becomes "0", which names no task either."""

    def to_python(self, value: str) -> str:
        return value if re.fullmatch("[1-9][0-9]{0,15}", value) else "0"


@bp.post("")
@login_required
def create_task() -> Response:
    values = {"body": body("create_task"), **parameters("create_task")}
    run = db.change if values["idempotency_key"] else db.fetch  # a key may have to wait for the task that has it
    row = run("create_task", **values)
    task, version, task_id, replayed, same = row or abort(500)
    if same == b"f":
        abort(422, [{"loc": ["header", "Idempotency-Key"], "msg": "value was used with another body", "type": "idempotency"}])
    response = task_response((task, version), 201)
    response.headers["Location"] = url_for(".get_task", user_id=g.user_id, task_id=(task_id or b"").decode())
    if replayed == b"t":
        response.headers["Idempotency-Replayed"] = "true"
    return response


@bp.get("")
@login_required
def list_tasks() -> Response:
    chosen = parameters("list_tasks")
    by_id = "list_tasks" if chosen["order"] == "asc" else "list_tasks_newest_first"
    name = by_id if chosen["sort"] == "created_at" else "list_tasks_sorted"
    tasks, tag, last_id = db.fetch(name, **{**chosen, "if_none_match": if_none_match()}) or abort(500)
    response = task_response((tasks or b"", tag))
    if last_id:
        response.headers["Link"] = f'<{next_page(chosen, last_id.decode())}>; rel="next"'
    return cacheable(response)


@bp.get("/<task_id:task_id>")
@login_required
def get_task(task_id: str) -> Response:
    return cacheable(task_response(db.fetch("get_task", task_id=task_id)))


@bp.put("/<task_id:task_id>")
@login_required
def update_task(task_id: str) -> Response:
    return task_response(db.change("update_task", task_id=task_id, body=body("update_task"), if_match=if_match()))


@bp.patch("/<task_id:task_id>/complete")
@login_required
def toggle_task(task_id: str) -> Response:
    return task_response(db.change("toggle_task", task_id=task_id, body=body("toggle_task"), if_match=if_match()))


@bp.delete("/<task_id:task_id>")
@login_required
def delete_task(task_id: str) -> Response:
    task_response(db.change("delete_task", task_id=task_id, if_match=if_match()))
    response = TaskResponse(status=204)
    del response.headers["Content-Type"]
    return response


def task_response(row: Row | None, status: int = 200) -> Response:
    """The JSON as the database made it, with its version as the ETag."""
    json, version = row or abort(404, "Task not found")
    if json is None:
        abort(412, "Task has changed since")
    return TaskResponse(json, status, {"ETag": f'"{(version or b"").decode()}"'}, content_type="application/json")


def if_match() -> str:
    """The versions that the client expects, comma-separated, or "*" for any (RFC 9110, section 13.1.1: weak tags match none)."""
    if "HTTP_IF_MATCH" not in request.environ or request.if_match.star_tag:
        return "*"
    return ",".join(tag for tag in request.if_match.as_set() if tag and tag.isdecimal())


def if_none_match() -> str:
    """The tags of lists that the client has, comma-separated, or "*" for any (RFC 9110, section 13.1.2: weak ones match too)."""
    if "HTTP_IF_NONE_MATCH" not in request.environ:
        return ""
    tags = request.if_none_match
    return "*" if tags.star_tag else ",".join(tag for tag in tags.as_set(include_weak=True) if tag != "*" and "," not in tag)


def next_page(chosen: dict[str, str], last_id: str) -> str:
    """Where the list goes on (RFC 8288): behind the last task of this page, or by offset in an order that ids do not follow."""
    step = {"after": last_id} if chosen["sort"] == "created_at" else {"offset": int(chosen["offset"]) + int(chosen["limit"])}
    kept = {name: value for name, value in request.args.items() if name not in ("after", "offset")}
    return f"{url_for('.list_tasks', user_id=g.user_id)}?{urlencode({**kept, **step})}"
