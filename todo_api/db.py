"""The connection pool, and the statements of `sql/` by name."""

import os
import re
import threading
import time
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import psycopg
from flask import Flask, current_app, g
from psycopg.abc import RV, PQGen
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, TooManyRequests

from todo_api.config import Config

SQL = Path(__file__).resolve().parent.parent / "sql"
POOL_TIMEOUT = 3  # seconds to wait for a free connection; gunicorn bounds how many requests may
DEADLINE = 11  # seconds to wait for an answer; statement_timeout comes first where it can be set
TRUSTED_SECONDS = 30  # how long after its last use a connection is not asked whether it still works
# Every statement has one good plan; making one for each value costs more than it gains, but Citus has no other kind.
SETTINGS = """SET lock_timeout = '5s'; SET statement_timeout = '10s';
SELECT set_config('plan_cache_mode', 'force_generic_plan', false) WHERE to_regclass('pg_dist_partition') IS NULL"""
Row = tuple[Any, ...]


class Connection(psycopg.Connection[Row]):
    made = trusted_until = 0.0  # monotonic time

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Give up after a while also where the server sets no limit: behind a pooler, or when the network swallows the answer."""
        try:
            return super().wait(gen, interval, DEADLINE if timeout is None else timeout)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.close()  # its statement may still run
            raise


class Pool(ConnectionPool[Connection]):
    """The connections of one process, which opens them with its first request: they do not survive a fork."""

    def __init__(self, config: Config) -> None:
        self.prepare, self.drained = config.prepare, 0.0
        self.turns: WeakValueDictionary[str, threading.Semaphore] = WeakValueDictionary()
        super().__init__(
            config.database_url,
            connection_class=Connection,
            kwargs={"autocommit": True, "client_encoding": "utf8", "fallback_application_name": "todo_api"},
            configure=self.set_up,
            check=self.look_at,
            min_size=1,
            max_size=config.pool_size,
            timeout=POOL_TIMEOUT,
            reconnect_timeout=1,
            open=False,
        )

    def set_up(self, conn: Connection) -> None:
        """Set time limits, unless a transaction pooler is in between, which is known by the process id that it makes up.

        Behind one, settings and prepared statements would end up with the next client on the same server connection: it would run
        our statement under the name of its own, a DELETE for a SELECT.
        """
        conn.made = time.monotonic()
        direct = conn.execute("SELECT pg_backend_pid()").fetchone() == (conn.info.backend_pid,)
        if direct:
            conn.execute(SETTINGS)
        conn.prepare_threshold = 0 if self.prepare == "on" or (self.prepare == "auto" and direct) else None

    def look_at(self, conn: Connection) -> None:
        """Before each use: refuse a dead connection, and all others of its time, since what ended one has mostly ended all."""
        try:
            conn.pgconn.consume_input()  # what the server said when it closed the connection, if it did
            conn.pgconn.consume_input()  # and the end; to see that there is neither costs no round trip
            if conn.trusted_until < time.monotonic():
                self.check_connection(conn)
        except psycopg.OperationalError:
            if conn.made > self.drained:
                self.drained = time.monotonic()
                self.drain()
            raise
        conn.trusted_until = time.monotonic() + TRUSTED_SECONDS

    def turn(self, user_id: str) -> threading.Semaphore:
        """Lets so many threads pass at once as one user may have connections for changes."""
        return self.turns.get(user_id) or self.turns.setdefault(user_id, threading.Semaphore(self.max_size // 2 or 1))


def init_app(app: Flask, config: Config) -> None:
    # libpq sends it as a start-up parameter, which transaction poolers keep for each client; SET would leak to others.
    os.environ["PGTZ"] = "UTC"
    app.extensions["pool"] = Pool(config)
    app.extensions["statements"] = {path.stem: statement(path) for path in SQL.glob("*.sql")}


def statement(path: Path) -> bytes:
    """The file for psycopg: psql's `:'name'` becomes `%(name)s`, and the file's name follows its first word, for the
    database's log and statistics: PostgreSQL 18 drops a comment in front."""
    text = re.sub(r"^ *--.*\n", "", path.read_text(), flags=re.MULTILINE).strip()
    text = re.sub(r":'(\w+)'", r"%(\1)s", text.replace("%", "%%"))
    return re.sub(r"^\w+", rf"\g<0> /* {path.stem} */", text).encode()


def fetch(name: str, **values: str) -> Row | None:
    """Run the statement of `sql/{name}.sql` for the user of the request, whom it gets as `user_id` beside the given values.

    Returns:
        The first row, or None without one.

    Raises:
        psycopg.OperationalError: no connection in time, or lost, or a time limit passed.
    """
    pool: Pool = current_app.extensions["pool"]
    if pool.closed:
        pool.open()
    try:
        with pool.connection() as conn:
            return conn.execute(current_app.extensions["statements"][name], {**values, "user_id": g.get("user_id")}).fetchone()
    except psycopg.errors.ReadOnlySqlTransaction as error:
        pool.drain()  # the server has become a standby
        raise psycopg.OperationalError("read-only server") from error


def change(name: str, **values: str) -> Row | None:
    """Like `fetch`, for a statement that waits while someone else holds its row locked.

    A user has at most half of the connections for these, so that many requests for one locked row keep nobody else waiting.
    """
    turn = current_app.extensions["pool"].turn(g.user_id)
    if not turn.acquire(timeout=POOL_TIMEOUT):
        raise TooManyRequests("too many changes of one user at once")
    try:
        return fetch(name, **values)
    finally:
        turn.release()
