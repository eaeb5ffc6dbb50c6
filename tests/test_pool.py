"""The limits of the connection pool, time limits of statements, and connections that stay usable after a schema change."""

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing

import psycopg
import pytest
from flask import Flask
from psycopg_pool import TooManyRequests

from tests.support.client import Client, application, in_process
from tests.support.proxy import proxy
from tests.support.server import wait_until
from todo_api import connection
from todo_api import pool as pool_module
from todo_api.app import ResponseTimeout
from todo_api.connection import Connection
from todo_api.migrations import migrate
from todo_api.pool import Pool


@pytest.fixture
def own_app(database_url: str) -> Iterator[Flask]:
    with application(database_url) as app:
        yield app


@pytest.fixture
def pool(own_app: Flask, monkeypatch: pytest.MonkeyPatch) -> Pool:
    monkeypatch.setattr(pool_module, "POOL_TIMEOUT", 0.3)
    pool: Pool = own_app.extensions["pool"]
    return pool


def use(pool: Pool, user_id: str, *, may_block: bool = False) -> ExitStack:
    held = ExitStack()
    held.enter_context(pool.acquire(user_id, may_block=may_block))
    return held


def test_a_user_gets_half_of_the_connections(pool: Pool) -> None:
    with ExitStack() as held:
        for _ in range(4):
            held.enter_context(use(pool, "alice"))
        with pytest.raises(TooManyRequests):
            use(pool, "alice")
        use(pool, "bob").close()
    use(pool, "alice").close()


def test_the_limit_of_a_user_holds_however_many_others_there_are(pool: Pool) -> None:
    with ExitStack() as held:
        for _ in range(4):
            held.enter_context(use(pool, "alice"))
        for n in range(1100):
            use(pool, f"user-{n}").close()
        with pytest.raises(TooManyRequests):
            use(pool, "alice")


def test_a_request_leaves_no_state_in_the_pool(pool: Pool) -> None:
    use(pool, "alice").close()
    assert (pool.waiting, pool.in_use, pool.limits.used) == (0, {}, {})


def test_statements_that_may_block_leave_one_connection_free(pool: Pool) -> None:
    with ExitStack() as held:
        for n in range(7):
            held.enter_context(use(pool, f"user-{n}", may_block=True))
        with pytest.raises(TooManyRequests):
            use(pool, "alice", may_block=True)
        use(pool, "alice").close()


def run_slow_statement(pool: Pool, user_id: str) -> None:
    with pool.acquire(user_id, may_block=False) as conn:
        conn.response_timeout = 0.05
        conn.execute("SELECT pg_sleep(60)")


def test_users_whose_statements_time_out_share_a_quarter_of_the_connections(pool: Pool) -> None:
    for n in range(4):
        with pytest.raises(ResponseTimeout):
            run_slow_statement(pool, f"slow-{n}")
    with use(pool, "slow-0"), use(pool, "slow-1"):
        with pytest.raises(TooManyRequests):
            use(pool, "slow-2")
        use(pool, "alice").close()
    with use(pool, "slow-0"), use(pool, "slow-1"):  # their statements have succeeded, so they are no longer slow
        use(pool, "slow-2").close()


def test_health_checks_never_count_as_slow(pool: Pool) -> None:
    with pytest.raises(ResponseTimeout):
        run_slow_statement(pool, "")
    assert not pool.limits.slow_users


def test_a_lost_connection_does_not_make_its_user_slow(pool: Pool) -> None:
    with pytest.raises(psycopg.OperationalError), pool.acquire("alice", may_block=False) as conn:
        conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert not pool.limits.slow_users


def test_the_response_timeout_is_short_while_a_quarter_of_connections_are_stuck(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "STUCK_SECONDS", -1)
    with ExitStack() as held:
        conns = [held.enter_context(pool.acquire(f"user-{n}", may_block=False)) for n in range(6)]
        assert [conn.response_timeout for conn in conns] == [11, 2, 2, 2, 2, 2]
        waiting = held.enter_context(pool.acquire("alice", may_block=True))
        assert waiting.response_timeout == 2 + 5  # longer than PostgreSQL's lock_timeout


def test_a_statement_that_may_wait_for_a_row_is_not_stuck_while_it_may_wait(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "STUCK_SECONDS", -4)  # as if all of them had been in use for 4 s
    with ExitStack() as held:
        for n in range(6):
            held.enter_context(use(pool, f"user-{n}", may_block=True))
        assert held.enter_context(pool.acquire("alice", may_block=False)).response_timeout == 11


def test_a_statement_without_a_response_in_time_is_cancelled_on_the_server(database_url: str, sql: psycopg.Connection) -> None:
    conn = Connection.connect(database_url)
    pid, conn.response_timeout = conn.info.backend_pid, 0.05
    with pytest.raises(ResponseTimeout):
        conn.execute("SELECT pg_sleep(60)")
    assert conn.closed
    running = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
    wait_until(lambda: sql.execute(running, [pid]).fetchone() == (0,), "the server has cancelled the statement")


def test_an_idle_connection_is_checked_for_a_short_time(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CHECK_SECONDS", 0.05)
    with proxy(database_url) as between, closing(Connection.connect(between.url)) as conn:
        conn.check_alive()
        between.silent.set()
        conn.last_used = float("-inf")
        with pytest.raises(ResponseTimeout):
            conn.check_alive()


def test_a_changed_result_type_fails_no_request(empty_database: str) -> None:
    migrate(empty_database)
    with application(empty_database, DB_POOL_SIZE="1") as app, psycopg.connect(empty_database, autocommit=True) as sql:
        alice = Client(in_process(app), f"alice-{uuid.uuid4()}")
        task = alice.create()
        assert alice.call("GET", task["id"]).status == 200
        (view,) = sql.execute("SELECT 'CREATE VIEW api_tasks AS ' || pg_get_viewdef('api_tasks')").fetchone() or ("",)
        sql.execute("DROP VIEW api_tasks")
        sql.execute("ALTER TABLE tasks ALTER COLUMN id TYPE int")
        sql.execute(view)
        assert alice.call("GET", task["id"]).json == task
        assert alice.call("POST", body={"title": "x"}).status == 201
        assert len(alice.list()) == 2


def test_name_resolution_has_a_time_limit(own_app: Flask) -> None:
    assert os.environ["RES_OPTIONS"] == "timeout:2 attempts:2"
