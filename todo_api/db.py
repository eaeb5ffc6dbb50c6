"""Runs the statements of `sql/` by name."""

import os

import psycopg
from flask import Flask, current_app, g

from todo_api.config import Config
from todo_api.pool import Pool
from todo_api.statements import SQL, Row, statement


def init_app(app: Flask, config: Config) -> None:
    # libpq sends it as a start-up parameter, which transaction poolers keep for each client; SET would leak to others.
    os.environ["PGTZ"] = "UTC"
    if "pool" not in app.extensions:  # metrics.py has one that it can watch
        app.extensions["pool"] = Pool(config)
    app.extensions["statements"] = {path.stem: statement(path) for path in SQL.glob("*.sql")}


def fetch(name: str, **values: str) -> Row | None:
    """Run the statement of `sql/{name}.sql` for the user of the request, whom it gets as `user_id` beside the given values.

    A user has at most half of the connections, so that many or slow requests of one keep nobody else waiting.

    Returns:
        The first row, or None without one.

    Raises:
        psycopg.OperationalError: no connection in time, or lost, or a time limit passed.
    """
    return _run(name, values, change=False)


def change(name: str, **values: str) -> Row | None:
    """Like `fetch`, for a statement that waits while its row is locked: the last connection is not for these."""
    return _run(name, values, change=True)


def _run(name: str, values: dict[str, str], *, change: bool) -> Row | None:
    extensions, user_id = current_app.extensions, g.get("user_id", "")
    pool: Pool = extensions["pool"]
    conn = pool.take(user_id, change=change)
    try:
        return conn.run(extensions["statements"][name], {**values, "user_id": user_id})
    except psycopg.errors.ReadOnlySqlTransaction as error:
        pool.drain()  # the server has become a standby
        raise psycopg.OperationalError("read-only server") from error
    finally:
        pool.give_back(conn)
