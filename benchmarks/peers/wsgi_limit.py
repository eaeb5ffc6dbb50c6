"""A bare WSGI callable that routes by hand and validates nothing: the upper limit with gunicorn, gevent and psycopg."""

import json
import os
import time
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import jwt
from psycopg_pool import ConnectionPool

COLUMNS = "id, user_id, title, description, completed, created_at, updated_at"
TASK = f"row_to_json((SELECT task FROM (SELECT {COLUMNS}) AS task))::text"
MINE = "WHERE user_id = %(user_id)s AND id = %(id)s"
LIST = f"SELECT {COLUMNS} FROM tasks WHERE user_id = %(user_id)s ORDER BY id"
STATEMENTS = {
    ("GET", 4): f"SELECT array_to_json(array(SELECT task FROM ({LIST}) AS task))::text",
    ("POST", 4): "INSERT INTO tasks (user_id, title, description, completed) "
    f"VALUES (%(user_id)s, %(title)s, %(description)s, coalesce(%(completed)s, false)) RETURNING {TASK}",
    ("GET", 5): f"SELECT {TASK} FROM tasks {MINE}",
    ("PUT", 5): "UPDATE tasks SET title = coalesce(%(title)s, title), description = coalesce(%(description)s, description), "
    f"completed = coalesce(%(completed)s, completed), updated_at = now() {MINE} RETURNING {TASK}",
    ("PATCH", 6): f"UPDATE tasks SET completed = NOT completed, updated_at = now() {MINE} RETURNING {TASK}",
    ("DELETE", 5): f"DELETE FROM tasks {MINE} RETURNING ''",
}
STATUS = {"POST": "201 Created", "DELETE": "204 No Content"}
pool = ConnectionPool(
    os.environ["NEON_DATABASE_URL"],
    kwargs={"autocommit": True, "prepare_threshold": 0, "options": "-c timezone=UTC -c plan_cache_mode=force_generic_plan"},
    min_size=8,
    open=False,  # opened after the fork, because its threads do not survive a fork
)
remembered: dict[str, tuple[str, float]] = {}


def user_of(header: str) -> str:
    user_id, until = remembered.get(header, ("", 0.0))
    if time.time() >= until:
        claims = jwt.decode(header.removeprefix("Bearer "), os.environ["BETTER_AUTH_SECRET"], ["HS256"])
        user_id, until = remembered[header] = claims["sub"], claims["exp"]
    return user_id


def answer(environ: WSGIEnvironment) -> tuple[str, bytes]:
    path, method = environ["PATH_INFO"].split("/"), environ["REQUEST_METHOD"]
    if path[1] == "health":
        return "200 OK", b"{}"
    try:
        user_id = user_of(environ.get("HTTP_AUTHORIZATION", ""))
    except jwt.PyJWTError:
        return "401 Unauthorized", b"{}"
    if user_id != path[2]:
        return "403 Forbidden", b"{}"
    values: dict[str, Any] = {"user_id": user_id, "id": path[4] if len(path) > 4 else None}
    if length := int(environ.get("CONTENT_LENGTH") or 0):
        values |= {"title": None, "description": None, "completed": None, **json.loads(environ["wsgi.input"].read(length))}
    if pool.closed:
        pool.open()
    with pool.connection() as conn:
        row = conn.execute(STATEMENTS[method, len(path)], values).fetchone()
    return (STATUS.get(method, "200 OK"), row[0].encode()) if row else ("404 Not Found", b"{}")


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    status, body = answer(environ)
    headers = [("Content-Type", "application/json"), ("Access-Control-Allow-Origin", os.environ["BETTER_AUTH_URL"])]
    start_response(status, headers if status[0:3] == "204" else [*headers, ("Content-Length", str(len(body)))])
    return [body]
