"""The connection pool, and the statements of `sql/` by name."""

import os
import re
import select
import time
from pathlib import Path
from typing import Any

import psycopg
from flask import Flask, current_app, g
from psycopg_pool import ConnectionPool

from todo_api.config import Config

SQL = Path(__file__).resolve().parent.parent / "sql"
POOL_TIMEOUT = 3  # seconds to wait for a free connection
TRUSTED_SECONDS = 30  # how long after its last use a connection is not asked whether it still works
# Every statement has one good plan; a plan made anew for each value costs more than it gains.
SETTINGS = "SET lock_timeout = '5s'; SET statement_timeout = '10s'; SET plan_cache_mode = force_generic_plan"
Row = tuple[Any, ...]


class Connection(psycopg.Connection[Row]):
    trusted_until = 0.0  # monotonic time


def init_app(app: Flask, config: Config) -> None:
    # libpq sends it as a start-up parameter, which transaction poolers keep for each client; SET would leak to others.
    os.environ["PGTZ"] = "UTC"
    app.extensions["statements"] = {path.stem: statement(path) for path in SQL.glob("*.sql")}
    app.extensions["pool"] = ConnectionPool(
        config.database_url,
        connection_class=Connection,
        kwargs={"autocommit": True},
        min_size=1,
        max_size=config.pool_size,
        max_waiting=2 * config.pool_size,
        timeout=POOL_TIMEOUT,
        reconnect_timeout=1,
        configure=configure,
        check=check,
        open=False,  # each worker process opens its own with the first request: connections do not survive a fork
    )


def fetch(name: str, **parameters: str) -> Row | None:
    """Run the statement of `sql/{name}.sql` for the user of the request, whom it gets as `user_id` beside the given values.

    Returns:
        The first row, or None without one.

    Raises:
        psycopg.OperationalError: no connection in time, or lost, or a time limit passed.
    """
    pool: ConnectionPool[Connection] = current_app.extensions["pool"]
    if pool.closed:
        pool.open()
    with pool.connection() as conn:
        return conn.execute(current_app.extensions["statements"][name], {**parameters, "user_id": g.get("user_id")}).fetchone()


def statement(path: Path) -> bytes:
    """The file for psycopg: psql's `:'name'` becomes `%(name)s`, and the file's name leads, for the database's own log."""
    text = re.sub(r"^--.*\n", "", path.read_text(), flags=re.MULTILINE).strip()
    text = re.sub(r":'(\w+)'", r"%(\1)s", text.replace("%", "%%"))
    return f"/* {path.stem} */ {text}".encode()


def configure(conn: Connection) -> None:
    """Set time limits, unless a transaction pooler is in between, which is known by the process id that it makes up.

    Behind one the next client on the same server connection would find our settings and prepared statements.
    """
    if conn.execute("SELECT pg_backend_pid()").fetchone() == (conn.info.backend_pid,):
        conn.execute(SETTINGS)
    else:
        conn.prepare_threshold = None


def check(conn: Connection) -> None:
    """Before each use: refuse a dead connection, and drain the pool, since what ended one has mostly ended all.

    A connection that the server has closed is readable, which costs no round trip to see.
    """
    poll = select.poll()
    poll.register(conn.fileno(), select.POLLIN)
    if poll.poll(0) or conn.trusted_until < time.monotonic():
        try:
            ConnectionPool.check_connection(conn)
        except psycopg.OperationalError:
            current_app.extensions["pool"].drain()
            raise
    conn.trusted_until = time.monotonic() + TRUSTED_SECONDS
