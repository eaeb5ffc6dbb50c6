"""The connection pool, and the statements of `sql/` by name."""

import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from weakref import WeakValueDictionary

import psycopg
from flask import Flask, current_app, g
from psycopg import generators
from psycopg.abc import RV, PQGen
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg_pool import ConnectionPool, TooManyRequests

from todo_api.config import Config

SQL = Path(__file__).resolve().parent.parent / "sql"
POOL_TIMEOUT = 3  # seconds to wait for a free connection; gunicorn bounds how many requests may
DEADLINE = 11  # seconds to wait for an answer; statement_timeout comes first where it can be set
TRUSTED_SECONDS = 30  # how long after its last use a connection is not asked whether it still works
# Every statement has one good plan; making one for each value costs more than it gains, but Citus has no other kind.
SETTINGS = """SET lock_timeout = '5s'; SET statement_timeout = '10s';
SELECT set_config('plan_cache_mode', 'force_generic_plan', false) WHERE to_regclass('pg_dist_partition') IS NULL"""
Row = tuple[bytes | None, ...]  # PostgreSQL's text of each column


class Statement(NamedTuple):
    name: bytes
    text: bytes  # with $1, $2, …
    parameters: list[str]  # their names


class Connection(psycopg.Connection):
    made = trusted_until = 0.0  # monotonic time
    prepared: set[bytes] | None = None  # the statements that the server keeps for this connection; None where it may keep none

    def run(self, statement: Statement, values: Mapping[str, str]) -> Row | None:
        """The first row, or None without one.

        In libpq's own terms: text goes in and JSON comes out. A cursor, with nothing to convert, would take twice as long.
        """
        given = [values[name].encode() for name in statement.parameters]
        if b"\0" in b"".join(given):
            raise psycopg.DataError("a value holds U+0000, where libpq would end it")
        if self.prepared is None:
            self.pgconn.send_query_params(statement.text, given)
        else:
            if statement.name not in self.prepared:
                self.pgconn.send_prepare(statement.name, statement.text)
                self.result()
                self.prepared.add(statement.name)
            self.pgconn.send_query_prepared(statement.name, given)
        result = self.result()
        return tuple(result.get_value(0, column) for column in range(result.nfields)) if result.ntuples else None

    def result(self) -> PGresult:
        """What the server makes of what was sent to it."""
        result: PGresult
        (result,) = self.wait(generators.execute(self.pgconn))
        if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
            raise error_from_result(result)
        return result

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
        conn.prepared = set() if self.prepare == "on" or (self.prepare == "auto" and direct) else None

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


def statement(path: Path) -> Statement:
    """The file for libpq: psql's `:'name'` becomes `$1`, and the file's name follows the first word, for the database's log and
    statistics: PostgreSQL 18 drops a comment in front."""
    text = re.sub(r"^ *--.*\n", "", path.read_text(), flags=re.MULTILINE).strip()
    names = list(dict.fromkeys(re.findall(r":'(\w+)'", text)))
    text = re.sub(r":'(\w+)'", lambda match: f"${names.index(match[1]) + 1}", text)
    return Statement(path.stem.encode(), re.sub(r"^\w+", rf"\g<0> /* {path.stem} */", text).encode(), names)


def fetch(name: str, **values: str) -> Row | None:
    """Run the statement of `sql/{name}.sql` for the user of the request, whom it gets as `user_id` beside the given values.

    Returns:
        The first row, or None without one.

    Raises:
        psycopg.OperationalError: no connection in time, or lost, or a time limit passed.
    """
    extensions = current_app.extensions
    pool: Pool = extensions["pool"]
    if pool.closed:
        pool.open()
    conn = pool.getconn()
    try:
        return conn.run(extensions["statements"][name], {**values, "user_id": g.get("user_id", "")})
    except psycopg.errors.ReadOnlySqlTransaction as error:
        pool.drain()  # the server has become a standby
        raise psycopg.OperationalError("read-only server") from error
    finally:
        pool.putconn(conn)


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
