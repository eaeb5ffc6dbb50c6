"""The six operations on a user's tasks."""

import re

from flask import Blueprint, Response, abort, current_app, g, url_for
from werkzeug.routing import BaseConverter

from todo_api import db
from todo_api.auth import login_required
from todo_api.contract import body

bp = Blueprint("tasks", __name__, url_prefix="/api/<user_id>/tasks")


class TaskId(BaseConverter):
    """A task id in a path. Text that no task can have as its id becomes "0", which names no task either."""

    def to_python(self, value: str) -> str:
        return value if re.fullmatch("[1-9][0-9]{0,15}", value) else "0"


@bp.post("")
@login_required
def create_task() -> Response:
    task, task_id = found(db.fetch("create_task", body=body("create_task")))
    location = url_for(".get_task", user_id=g.user_id, task_id=task_id)
    return current_app.make_response((task, 201, {"Location": location}))


@bp.get("")
@login_required
def list_tasks() -> Response:
    return answer(db.fetch("list_tasks"))


@bp.get("/<task_id:task_id>")
@login_required
def get_task(task_id: str) -> Response:
    return answer(db.fetch("get_task", task_id=task_id))


@bp.put("/<task_id:task_id>")
@login_required
def update_task(task_id: str) -> Response:
    return answer(db.fetch("update_task", task_id=task_id, body=body("update_task")))


@bp.patch("/<task_id:task_id>/complete")
@login_required
def toggle_task(task_id: str) -> Response:
    return answer(db.fetch("toggle_task", task_id=task_id, body=body("toggle_task")))


@bp.delete("/<task_id:task_id>")
@login_required
def delete_task(task_id: str) -> Response:
    found(db.fetch("delete_task", task_id=task_id))
    response = current_app.response_class(status=204)
    del response.headers["Content-Type"]
    return response


def answer(row: db.Row | None) -> Response:
    """The JSON text of the row's first column, as the database made it."""
    return current_app.make_response(found(row)[0])


def found(row: db.Row | None) -> db.Row:
    return row or abort(404, "Task not found")
