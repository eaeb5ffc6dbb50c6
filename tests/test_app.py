"""The overrides in todo_api/app.py return the same results as the original methods, and Flask and werkzeug still call them."""

import contextlib
from typing import Any

import psycopg
import pytest
from flask import Flask, Request, Response, url_for
from werkzeug.datastructures import Headers
from werkzeug.routing import MapAdapter

from tests.support.client import Client, application, in_process
from tests.support.load import every_operation
from tests.support.proxy import proxy
from todo_api.app import ApiResponse, TodoApp
from todo_api.connection import Connection
from todo_api.statements import Statement


def test_headers_are_those_of_werkzeug(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    fast, compared = ApiResponse.get_wsgi_headers, []

    def compare(self: ApiResponse, environ: dict[str, Any]) -> Headers:
        headers = fast(self, environ)
        assert sorted(headers) == sorted(Response.get_wsgi_headers(self, environ))
        compared.append(self.status_code)
        return headers

    monkeypatch.setattr(ApiResponse, "get_wsgi_headers", compare)
    for operation in every_operation(alice.create("tïtle")["id"]):
        alice.call(*operation)
    alice.call("GET", "abc")
    alice.send("GET", "/openapi.json", {}, None)
    assert compared == [201, 200, 201, 200, 200, 200, 204, 404, 200]


def test_paths_match_as_in_flask(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    fast, compared = TodoApp.create_url_adapter, []

    def compare(self: TodoApp, request: Request | None) -> MapAdapter | None:
        adapter, own = fast(self, request), Flask.create_url_adapter(self, request)
        if not adapter or not own:  # an application context without a request
            assert adapter is own
            return None
        facts = ("script_name", "subdomain", "url_scheme", "path_info", "default_method")
        assert [getattr(adapter, name) for name in facts] == [getattr(own, name) for name in facts]
        compared.append(adapter.path_info)
        return adapter

    monkeypatch.setattr(TodoApp, "create_url_adapter", compare)
    alice.send("GET", "/api/%C3%A9//tasks/?a=b", {}, None)
    alice.send("POST", "/", {}, None)
    assert compared == ["/api/é//tasks/", "/"]


def test_trusted_hosts_are_checked_if_set(database_url: str) -> None:
    with application(database_url) as app:
        send = in_process(app)
        assert send("GET", "/health", {"Host": "other.example.com"}, None).status == 200
        app.config["TRUSTED_HOSTS"] = ["api.example.com"]
        assert send("GET", "/health", {"Host": "other.example.com"}, None).status == 400
        assert send("GET", "/health", {"Host": "api.example.com"}, None).status == 200


def test_the_server_name_is_used_if_set(database_url: str) -> None:
    with application(database_url) as app:
        app.config["SERVER_NAME"] = "api.example.com"
        assert in_process(app)("GET", "/health", {"Host": "other.example.com"}, None).status == 200
        with app.app_context():
            assert url_for("tasks.list_tasks", user_id="alice") == "http://api.example.com/api/alice/tasks"


class OriginalConnection(Connection):
    """Waits like psycopg itself, which GeventConnection must not differ from."""

    wait = psycopg.Connection.wait


Kind = type[Connection]


@pytest.mark.parametrize("prepare", ["on", "off"])
@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"SELECT 'title', $1, 2::bigint, true, NULL, '[]'::json", "tïtle ✓"),
        (b"SELECT 1 WHERE $1 = ''", "no row"),
        (b"SELECT length($1)", "longer than the buffer of a socket " * 300_000),
        (b"SELECT $1", "NUL \0"),
        (b"SELECT 1 / (length($1) - 1)", "1"),
        (b"SELECT $1::bigint", "not a number"),
        (b"SELECT missing WHERE $1 = ''", "a syntax error"),
        (b"SELECT pg_terminate_backend(pg_backend_pid()) WHERE $1 = 'x'", "x"),
    ],
    ids=["row", "no row", "long", "NUL", "division", "type", "syntax", "terminated"],
)
def test_a_row_or_an_error_is_that_of_psycopg(text: bytes, value: str, prepare: str, database_url: str) -> None:
    def outcomes(kind: Kind) -> list[Any]:
        found: list[Any] = []
        with kind.connect(database_url, prepare=prepare) as conn:
            for _ in range(2):  # the second time, the statement is already prepared
                try:
                    found.append(conn.fetch_row(Statement(text, ["value"]), {"value": value}))
                except psycopg.Error as error:
                    found.append((type(error), error.sqlstate))
        return found

    assert outcomes(Connection) == outcomes(OriginalConnection)


@pytest.mark.parametrize("kind", [OriginalConnection, Connection])
def test_a_row_counts_only_if_the_server_confirms_its_commit(kind: Kind, database_url: str) -> None:
    with proxy(database_url) as between, contextlib.closing(kind.connect(between.url)) as conn:
        assert conn.fetch_row(Statement(b"SELECT 1", []), {}) == (1,)
        between.cut.set()
        with pytest.raises(psycopg.OperationalError):
            conn.fetch_row(Statement(b"SELECT 1", []), {})


@pytest.mark.parametrize("kind", [OriginalConnection, Connection])
def test_an_error_at_commit_is_raised(kind: Kind, database_url: str) -> None:
    with kind.connect(database_url) as conn:
        conn.execute("CREATE TEMP TABLE late (n int)")
        conn.execute("CREATE FUNCTION pg_temp.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'late'; END $$")
        conn.execute(
            "CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION pg_temp.fail()"
        )
        with pytest.raises(psycopg.errors.RaiseException):
            conn.fetch_row(Statement(b"INSERT INTO late VALUES (1) RETURNING n", []), {})
