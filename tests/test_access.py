"""With ACCESS_LOG=true, each request writes one log record."""

import json
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Flask

from tests.support.client import ORIGIN, Client, application, in_process
from todo_api.logs import JsonFormatter
from todo_api.statements import Statement

LIST = "/api/<user_id>/tasks"
TASK = f"{LIST}/<task_id:task_id>"
NO_DATABASE = "postgresql://127.0.0.1:1/none?connect_timeout=1"
FIELDS = {"time", "level", "logger", "message", "request_id", "user", "method", "route", "status"}
TIMES = {"milliseconds", "database_milliseconds"}


@pytest.fixture
def watched(database_url: str) -> Iterator[Flask]:
    with application(database_url, ACCESS_LOG="true") as app:
        yield app


@pytest.fixture
def carol(watched: Flask) -> Client:
    return Client(in_process(watched), f"carol-{uuid.uuid4()}")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.handler.setFormatter(JsonFormatter())
    caplog.set_level("INFO", "todo_api.access")
    return caplog


def records(log: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    found = map(json.loads, log.text.splitlines())
    return [record for record in found if record["logger"] == "todo_api.access"]


def test_it_works(carol: Client, log: pytest.LogCaptureFixture) -> None:
    task_id = carol.create()["id"]
    log.clear()
    carol.call("PATCH", f"{task_id}/complete", headers={"X-Request-Id": "mine"})
    (record,) = records(log)
    assert record.keys() == FIELDS | TIMES
    assert (record["level"], record["message"], record["request_id"]) == ("INFO", "answered", "mine")
    assert (record["user"], record["method"], record["route"]) == (carol.user_id, "PATCH", f"{TASK}/complete")
    assert record["status"] == 200
    assert 0 < record["database_milliseconds"] < record["milliseconds"]
    assert str(task_id) not in record.values()


@pytest.mark.parametrize(
    ("method", "path", "headers", "known", "route", "status"),
    [
        ("GET", "", {"Authorization": ""}, False, LIST, 401),
        ("OPTIONS", "1", {"Authorization": ""}, False, TASK, 200),
        ("GET", "abc", {}, True, TASK, 404),
        ("GET", "1/nothing", {}, False, None, 404),
        ("POST", "1", {}, False, None, 405),
        ("GET", "?limit=hunter2", {}, True, LIST, 422),
    ],
)
def test_each_request_leaves_one_record_however_it_ends(
    carol: Client,
    log: pytest.LogCaptureFixture,
    method: str,
    path: str,
    headers: dict[str, str],
    known: bool,
    route: str,
    status: int,
) -> None:
    assert carol.call(method, path, headers=headers).status == status
    (record,) = records(log)
    assert (record["user"], record["method"]) == (carol.user_id if known else None, method)
    assert (record["route"], record["status"]) == (route, status)
    assert "hunter2" not in log.text


def test_a_403_is_recorded_with_the_user_of_the_token(carol: Client, bob: Client, log: pytest.LogCaptureFixture) -> None:
    assert carol.call("GET", of=bob).status == 403
    (record,) = records(log)
    assert (record["user"], record["status"], record["database_milliseconds"]) == (carol.user_id, 403, 0)


def test_an_internal_error_leaves_one_record(watched: Flask, carol: Client, log: pytest.LogCaptureFixture) -> None:
    watched.extensions["statements"]["list_tasks"] = Statement(b"SELECT secret_column", [])
    assert carol.call("GET").status == 500
    (record,) = records(log)
    assert (record["route"], record["status"]) == (LIST, 500)


def test_database_time_includes_the_wait_for_a_connection(log: pytest.LogCaptureFixture) -> None:
    with application(NO_DATABASE, ACCESS_LOG="true") as app:
        assert Client(in_process(app), "carol").call("GET").status == 503
        pool = app.extensions["pool"]
    (record,) = records(log)
    assert record["status"] == 503
    assert pool.timeout * 1000 <= record["database_milliseconds"] < record["milliseconds"]


def test_database_time_includes_the_wait_for_the_users_other_requests(watched: Flask, log: pytest.LogCaptureFixture) -> None:
    pool = watched.extensions["pool"]
    with ExitStack() as held:
        for _ in range(pool.max_size // 2):
            held.enter_context(pool.acquire("dave", may_block=False))
        assert Client(in_process(watched), "dave").call("GET").status == 503
    (record,) = records(log)
    assert pool.timeout * 1000 <= record["database_milliseconds"] < record["milliseconds"]


def test_no_value_forges_a_record(watched: Flask, log: pytest.LogCaptureFixture) -> None:
    mallory = Client(in_process(watched), '\r\n{"logger": "todo_api.access", "status": 200}\u2028')
    assert mallory.call("GET").status == 200
    assert mallory.call("GET", "\r\n{}", headers={"X-Request-Id": '"}{'}).status == 404
    assert [record["user"] for record in records(log)] == [mallory.user_id, mallory.user_id]


def test_without_settings_there_is_no_access_log_and_no_metrics(app: Flask, alice: Client, log: pytest.LogCaptureFixture) -> None:
    alice.list()
    assert records(log) == []
    hooks = [*app.before_request_funcs[None], *app.after_request_funcs[None]]
    assert {hook.__module__ for hook in hooks} == {"todo_api.headers"}
    assert alice.send("GET", "/metrics", {}, None).status == 404


def test_a_preflight_is_logged_like_every_request(watched: Flask, log: pytest.LogCaptureFixture) -> None:
    in_process(watched)("OPTIONS", "/api/alice/tasks", {"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}, None)
    (record,) = records(log)
    assert (record["method"], record["status"]) == ("OPTIONS", 204)
