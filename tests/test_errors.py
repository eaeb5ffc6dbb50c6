"""Errors: rules that hold for every route and every kind of error."""

import json
import uuid
from typing import Any

import pytest
from flask import Flask, Response

from tests.support.client import ORIGIN, SECRET, UNSET, Client, application, config, in_process
from todo_api import create_app
from todo_api.statements import Statement
from todo_api.tokens import make_token

CALLS: list[tuple[str, str, Any]] = [
    ("GET", "", UNSET),
    ("POST", "", {"title": "x"}),
    ("GET", "{id}", UNSET),
    ("PUT", "{id}", {"title": "x"}),
    ("DELETE", "{id}", UNSET),
    ("PATCH", "{id}/complete", UNSET),
]
NO_DATABASE = "postgresql://127.0.0.1:1/none?connect_timeout=1"
ON_A_TASK = [call for call in CALLS if "{id}" in call[1]]
WITH_A_BODY = [("POST", ""), ("PUT", "{id}"), ("PATCH", "{id}/complete")]


def test_the_calls_cover_every_route(app: Flask) -> None:
    routes = [rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith("tasks.")]
    assert len(routes) == len(CALLS)


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_a_missing_token_is_reported_before_other_errors(alice: Client, method: str, path: str, body: Any) -> None:
    for broken in (body, b"{", b"x" * 70_000):
        assert alice.call(method, path.format(id="abc"), broken, headers={"Authorization": ""}).status == 401


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_another_users_path_is_reported_before_other_errors(
    alice: Client, bob: Client, method: str, path: str, body: Any
) -> None:
    task = bob.create()
    for broken in (body, b"{", b"x" * 70_000):
        answer = alice.call(method, path.format(id=task["id"]), broken, of=bob)
        assert (answer.status, answer.json) == (403, {"detail": "Access forbidden: user_id mismatch"})
    assert bob.list() == [task]


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in CALLS])
def test_a_401_or_403_does_not_use_the_database(method: str, path: str) -> None:
    app = create_app(config(NO_DATABASE))
    client = app.test_client()
    path = f"/api/alice/tasks/{path.format(id=1)}"
    assert client.open(path, method=method).status_code == 401
    assert (
        client.open(path, method=method, headers={"Authorization": f"Bearer {make_token('bob', SECRET, 1)}"}).status_code == 403
    )
    assert app.extensions["pool"].closed


@pytest.mark.parametrize(("method", "path", "body"), ON_A_TASK)
@pytest.mark.parametrize(
    "task_id", ["abc", "0", "-1", str(2**53 - 1), str(2**63), str(2**200), "1.0", "007", "٣", "%20", "1e3", "%00"]
)
def test_an_unknown_id_is_a_404(alice: Client, method: str, path: str, body: Any, task_id: str) -> None:
    answer = alice.call(method, path.format(id=task_id), body)
    assert (answer.status, answer.json) == (404, {"detail": "Task not found"})


@pytest.mark.parametrize(("method", "path", "body"), ON_A_TASK)
def test_another_users_task_is_a_404(alice: Client, bob: Client, method: str, path: str, body: Any) -> None:
    task = bob.create()
    answer = alice.call(method, path.format(id=task["id"]), body)
    assert (answer.status, answer.json) == (404, {"detail": "Task not found"})
    assert bob.list() == [task]


@pytest.mark.parametrize(("method", "path"), WITH_A_BODY)
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b'{"title": NaN}',
        b'{"title": Infinity}',
        b'{"title": "x", "title": "y"}',
        b'{"title": "\xff"}',
        b'\xef\xbb\xbf{"title": "x"}',
        '{"title": "x"}'.encode("utf-16"),
        b"[" * 10_000,
        b"[" * 990 + b"]" * 990,
        b'{"completed":' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"title": ' + b"9" * 5000 + b"}",
        b"\0",
        b"'single'",
    ],
)
def test_a_body_that_is_not_json_is_a_400(alice: Client, method: str, path: str, body: bytes) -> None:
    answer = alice.call(method, path.format(id=alice.create()["id"]), body)
    assert answer.status == 400
    assert isinstance(answer.json["detail"], str)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b'{"title": "x", "description": ["\\ud800"]}', ["description"]),
        (b'{"title": {"\\ud800": 1}, "description": 5}', ["description", "title"]),
        (b'{"title": "\\ud83d\\ude00", "description": "\\ude00\\ud83d"}', ["description"]),
        (b'"\\ud800"', []),
    ],
)
def test_a_lone_surrogate_is_reported_for_its_field(alice: Client, body: bytes, fields: list[str]) -> None:
    answer = alice.call("POST", body=body)
    assert answer.status == 422
    assert sorted(problem["loc"] for problem in answer.json["detail"]) == ([["body", field] for field in fields] or [["body"]])


@pytest.mark.parametrize(("method", "path"), WITH_A_BODY)
def test_the_size_of_a_body_is_limited_to_64_kib(alice: Client, method: str, path: str) -> None:
    path = path.format(id=alice.create()["id"])
    fits = b'{"title": "x"}'.ljust(64 * 1024)
    assert alice.call(method, path, fits).status in (200, 201)
    answer = alice.call(method, path, fits + b" ", headers={"Content-Type": "text/plain"})
    assert answer.status == 413
    assert isinstance(answer.json["detail"], str)


@pytest.mark.parametrize(("method", "path"), WITH_A_BODY)
def test_the_type_of_a_body_must_be_json(alice: Client, method: str, path: str) -> None:
    path = path.format(id=alice.create()["id"])
    for good in ("", "application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/merge-patch+json"):
        assert alice.call(method, path, b'{"title": "x"}', headers={"Content-Type": good}).status in (200, 201)
    for bad in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "nonsense"):
        answer = alice.call(method, path, b'{"title": "x"}', headers={"Content-Type": bad})
        assert answer.status == 415
        assert isinstance(answer.json["detail"], str)


def test_invalid_fields_are_reported_before_a_missing_task(alice: Client) -> None:
    assert alice.call("PUT", 2**50, {"title": ""}).status == 422


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/alice", "/nope", "/debug/routes", "/api/a/b/tasks", "//health", "/api/%2F/tasks"]
)
def test_the_404_of_an_unknown_path_is_json(alice: Client, path: str) -> None:
    answer = alice.send("GET", path, {}, None)
    assert (answer.status, answer.json) == (404, {"detail": "Not Found"})
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/health", {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", "/api/alice/tasks", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("PATCH", "/api/alice/tasks/1", {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"}),
        ("GET", "/api/alice/tasks/1/complete", {"OPTIONS", "PATCH"}),
        ("TRACE", "/api/alice/tasks", {"GET", "HEAD", "OPTIONS", "POST"}),
    ],
)
def test_a_405_lists_the_allowed_methods(alice: Client, method: str, path: str, allowed: set[str]) -> None:
    answer = alice.send(method, path, {}, None)
    assert (answer.status, answer.json) == (405, {"detail": "Method Not Allowed"})
    assert set(answer.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_a_trailing_slash_causes_no_redirect(alice: Client, method: str, path: str, body: Any) -> None:
    task = alice.create()
    path = f"/api/{alice.user_id}/tasks/{path.format(id=task['id'])}".rstrip("/") + "/"
    raw = None if body is UNSET else json.dumps(body).encode()
    assert alice.send(method, path, alice.headers, raw).status in (200, 201, 204)


def test_an_internal_error_shows_no_details(app: Flask, alice: Client, caplog: pytest.LogCaptureFixture) -> None:
    statements = app.extensions["statements"]
    kept = statements["list_tasks"]
    statements["list_tasks"] = Statement(b"SELECT secret_column", [])
    try:
        answer = alice.call("GET")
    finally:
        statements["list_tasks"] = kept
    assert (answer.status, answer.json) == (500, {"detail": "Internal server error"})
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    (record,) = (vars(record) for record in caplog.records)
    assert (record["error"], record["sqlstate"]) == ("UndefinedColumn", "42703")
    assert any("list_tasks" in frame for frame in record["frames"])
    assert "secret_column" not in str(record)
    assert record["exc_info"] is None


def test_a_connection_to_a_standby_is_a_503_and_then_replaced(database_url: str) -> None:
    with application(database_url, DB_POOL_SIZE="1") as app:
        alice = Client(in_process(app), f"alice-{uuid.uuid4()}")
        alice.create()
        with app.extensions["pool"].connection() as conn:
            conn.execute("SET default_transaction_read_only = on")  # as if the server had become a standby
        answer = alice.call("POST", body={"title": "x"})
        assert (answer.status, answer.json) == (503, {"detail": "Service temporarily unavailable"})
        assert alice.call("POST", body={"title": "x"}).status == 201


def test_a_lost_database_is_a_503() -> None:
    with application(NO_DATABASE) as app:
        headers = {"Authorization": "Bearer " + make_token("alice", SECRET, minutes=1), "Origin": ORIGIN}
        response = app.test_client().get("/api/alice/tasks", headers=headers)
    assert (response.status_code, response.json) == (503, {"detail": "Service temporarily unavailable"})
    assert int(response.headers["Retry-After"]) >= 1
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN


def test_a_hook_that_fails_after_the_view_is_an_ordinary_500(database_url: str) -> None:
    with application(database_url) as app:

        @app.after_request
        def fail(response: Response) -> Response:
            if response.status_code == 200:
                raise ValueError("hunter2")
            return response

        answer = in_process(app)("GET", "/health", {"Origin": ORIGIN}, None)
    assert (answer.status, answer.json) == (500, {"detail": "Internal server error"})
    assert answer.headers["X-Request-Id"]
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
