"""The limits of the connection pool, statement deadlines, and connections that stay usable after a schema change."""

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest
from flask import Flask
from psycopg_pool import TooManyRequests

from tests.support.client import Client, application, in_process
from tests.support.server import wait_until
from todo_api import pool as pool_module
from todo_api.app import FastConnection
from todo_api.migrations import migrate
from todo_api.pool import Pool
from todo_api.statements import Statement


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
    held.callback(pool.release, pool.acquire(user_id, may_block=may_block))
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
    assert (pool.waiting, pool.in_use, pool.slow_users) == (0, {}, {})


def test_statements_that_may_block_leave_one_connection_free(pool: Pool) -> None:
    with ExitStack() as held:
        for n in range(7):
            held.enter_context(use(pool, f"user-{n}", may_block=True))
        with pytest.raises(TooManyRequests):
            use(pool, "alice", may_block=True)
        use(pool, "alice").close()


def run_into_a_time_limit(pool: Pool, user_id: str) -> None:
    with pytest.raises(psycopg.OperationalError):
        pool.fetch_row(Statement(b"SELECT pg_sleep(60)", []), {"user_id": user_id}, may_block=False)


def test_users_whose_statements_time_out_share_a_quarter_of_the_connections(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "STUCK_SECONDS", 0.01)
    monkeypatch.setattr(pool_module, "DEADLINE", 0.05)
    for n in range(4):
        run_into_a_time_limit(pool, f"slow-{n}")
    with use(pool, "slow-0"), use(pool, "slow-1"):
        with pytest.raises(TooManyRequests):
            use(pool, "slow-2")
        use(pool, "alice").close()
    pool.fetch_row(Statement(b"SELECT 1", []), {"user_id": "slow-2"}, may_block=False)
    assert set(pool.slow_users) == {"slow-0", "slow-1", "slow-3"}  # slow-2 is no longer slow, because its statement succeeded


def test_the_deadline_is_short_while_a_quarter_of_the_connections_are_stuck(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "STUCK_SECONDS", -1)
    deadlines = []
    with ExitStack() as held:
        for n in range(6):
            conn = pool.acquire(f"user-{n}", may_block=False)
            held.callback(pool.release, conn)
            deadlines.append(conn.deadline)
    assert deadlines == [11, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("by", ["fetch_row", "a cursor"])
def test_a_statement_past_its_deadline_is_cancelled_on_the_server(by: str, database_url: str, sql: psycopg.Connection) -> None:
    conn = FastConnection.connect(database_url)
    pid, conn.deadline = conn.info.backend_pid, 0.05
    with pytest.raises(psycopg.OperationalError):
        conn.fetch_row(Statement(b"SELECT pg_sleep(60)", []), {}) if by == "fetch_row" else conn.execute("SELECT pg_sleep(60)")
    assert conn.closed
    running = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
    wait_until(lambda: sql.execute(running, [pid]).fetchone() == (0,), "the server has cancelled the statement")


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
