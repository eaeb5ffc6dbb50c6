"""The log records of a database outage."""

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from flask import Flask
from psycopg.errors import AdminShutdown, LockNotAvailable, ReadOnlySqlTransaction
from psycopg_pool import PoolTimeout, TooManyRequests

from tests.support.client import Client, application, in_process
from tests.support.server import free_port
from todo_api.app import ResponseTimeout
from todo_api.outage import OutageLog

PASSWORD = "hunter2"
SERVER = "postgresql://user:hunter2@db.example.com:6432/todo"


@pytest.fixture(autouse=True)
def no_earlier_error() -> Iterator[None]:
    OutageLog.connect_error = None
    yield
    OutageLog.connect_error = None


def failed_connect(message: str) -> None:
    OutageLog.connect_error = psycopg.OperationalError(message)


def failure(database_url: str, caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """Send a request that fails. Return the one log record that it causes."""
    with application(database_url) as app:
        assert Client(in_process(app), "alice").call("GET").status == 503
    (record,) = (vars(record) for record in caplog.records if record.name == "todo_api.outage")
    assert PASSWORD not in str(record)
    return record


def test_a_refused_connection_is_named(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    record = failure(f"postgresql://user:{PASSWORD}@127.0.0.1:{port}/todo", caplog)
    assert record["msg"] == "database unavailable"
    assert "Connection refused" in record["cause"]
    assert (record["host"], record["port"]) == ("127.0.0.1", str(port))


def test_a_host_that_is_not_found_is_named(caplog: pytest.LogCaptureFixture) -> None:
    record = failure(f"postgresql://user:{PASSWORD}@nowhere.invalid/todo", caplog)
    assert "failed to resolve host 'nowhere.invalid'" in record["cause"]
    assert (record["host"], record["port"]) == ("nowhere.invalid", 5432)


@pytest.mark.parametrize(
    ("options", "user", "cause"),
    [
        ("LOGIN CONNECTION LIMIT 0", "{role}", 'too many connections for role "{role}"'),
        ("NOLOGIN", "{role}", 'role "{role}" is not permitted to log in'),
        ("LOGIN", "no_{role}", 'role "no_{role}" does not exist'),
    ],
    ids=["full", "locked out", "unknown"],
)
def test_a_refusal_of_the_server_is_named(
    options: str, user: str, cause: str, sql: psycopg.Connection, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    role = f"role_{time.time_ns()}"
    sql.execute(f"CREATE ROLE {role} {options}")
    try:
        parts = urlsplit(database_url)
        netloc = f"{user.format(role=role)}:{PASSWORD}@{parts.netloc.rpartition('@')[2]}"
        record = failure(parts._replace(netloc=netloc).geturl(), caplog)
    finally:
        sql.execute(f"DROP ROLE {role}")
    assert record["msg"] == "database unavailable"
    assert cause.format(role=role) in record["cause"]


def test_the_records_of_an_outage(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    clock = [1000.0]
    monkeypatch.setattr("todo_api.outage.monotonic", lambda: clock[0])
    current = OutageLog(SERVER)
    failed_connect("FATAL: the database system is\n\tstarting up")
    for clock[0] in (1000.0, 1001.0, 1009.9, 1010.0, 1012.0, 1021.0):
        current.record_failure(PoolTimeout("no connection"))
    clock[0] = 1025.5
    current.end()
    assert not current.began
    found = [(each.msg, vars(each).get("failed_requests"), vars(each).get("seconds")) for each in caplog.records]
    assert found == [
        ("database unavailable", None, None),
        ("database still unavailable", 4, 10.0),
        ("database still unavailable", 6, 21.0),
        ("database available again", 6, 25.5),
    ]
    assert {vars(each).get("cause") for each in caplog.records} == {"FATAL: the database system is starting up", None}
    assert {(vars(each)["host"], vars(each)["port"]) for each in caplog.records} == {("db.example.com", "6432")}
    current.record_failure(psycopg.OperationalError("the connection is lost"))
    assert caplog.records[-1].msg == "database unavailable"


@pytest.mark.parametrize(
    ("error", "is_outage"),
    [
        (PoolTimeout("no answer"), True),
        (TooManyRequests("one user"), False),
        (LockNotAvailable("lock timeout"), False),
        (ResponseTimeout("no response"), False),
        (AdminShutdown("terminating connection"), True),
        (psycopg.OperationalError("server closed the connection"), True),
        (psycopg.errors.InternalError_("failure on connection to a worker node"), False),
    ],
    ids=["no connection", "one user", "locked row", "no response in time", "shutdown", "lost", "Citus worker"],
)
def test_one_failed_statement_is_no_outage(
    error: psycopg.Error, is_outage: bool, app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    current = OutageLog(SERVER)
    with app.test_request_context():
        current.record_failure(error)
    assert bool(current.began) == is_outage
    record = caplog.records[-1]
    assert record.msg == ("database unavailable" if is_outage else "database error")
    if isinstance(error, PoolTimeout):
        assert vars(record)["cause"] == "a new connection was not ready in time"


def test_requests_that_wait_during_an_outage_are_counted(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    current = OutageLog(SERVER)
    with app.test_request_context():
        current.record_failure(TooManyRequests("no connection was free in time"))
        current.record_failure(PoolTimeout("no connection"))
        current.record_failure(TooManyRequests("no connection was free in time"))
    assert [each.msg for each in caplog.records] == ["database error", "database unavailable"]
    assert current.failed_requests == 2


def test_a_read_only_server_is_no_outage_because_reads_succeed(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    error = psycopg.OperationalError("the server is read-only")
    error.__cause__ = ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction")
    with app.test_request_context():
        OutageLog(SERVER).record_failure(error)
    record = vars(caplog.records[-1])
    assert (record["msg"], record["sqlstate"]) == ("database error", "25006")
    assert record["cause"] == "cannot execute INSERT in a read-only transaction"
