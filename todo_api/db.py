"""Runs the statements of `sql/` by name."""

import os
from queue import Empty

import psycopg
from flask import Flask, current_app, g
from psycopg_pool import TooManyRequests

from todo_api.config import Config
from todo_api.pool import POOL_TIMEOUT, Pool
from todo_api.statements import SQL, Row, statement


def init_app(app: Flask, config: Config) -> None:
    # libpq sends it as a start-up parameter, which transaction poolers keep for each client; SET would leak to others.
    os.environ["PGTZ"] = "UTC"
    if "pool" not in app.extensions:  # metrics.py has one that it can watch
        app.extensions["pool"] = Pool(config)
    app.extensions["statements"] = {path.stem: statement(path) for path in SQL.glob("*.sql")}


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
    pool: Pool = current_app.extensions["pool"]
    places = pool.places_of(g.user_id)
    try:
        places.get(timeout=POOL_TIMEOUT)
    except Empty:
        raise TooManyRequests("too many changes of one user at once") from None
    try:
        return fetch(name, **values)
    finally:
        places.put(None)
