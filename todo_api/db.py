"""Runs the statements of `sql/` by name."""

import os
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import psycopg
from flask import Flask, current_app, g

from todo_api.config import Config
from todo_api.outage import Outage
from todo_api.pool import Pool
from todo_api.statements import SQL, statement

EMPTY: Mapping[str, str] = MappingProxyType({})


def init_app(app: Flask, config: Config) -> None:
    # Set the time zone with PGTZ: a pooler keeps start-up parameters for each client, but other clients would share a SET.
    os.environ["PGTZ"] = "UTC"
    # connect_timeout does not cover name resolution: the C library may wait far longer by default.
    os.environ.setdefault("RES_OPTIONS", "timeout:2 attempts:2")
    app.extensions["pool"] = Pool(config)
    app.extensions["statements"] = {path.stem: statement(path) for path in SQL.glob("*.sql")}


def execute(name: str, values: Mapping[str, str] = EMPTY, *, may_block: bool = False) -> tuple[Any, ...] | None:
    """Run the statement of `sql/{name}.sql` with these values and the `user_id` of the request.

    Adds the time spent, in seconds and including the wait for a connection, to `g.database_seconds`.

    Args:
        name: name of the file.
        values: the parameters of the statement, as text.
        may_block: whether the statement may wait for a locked row. Such statements never take the last free connection.

    Returns:
        The first row, or None if there is none.

    Raises:
        psycopg.OperationalError: there was no connection in time, it was lost, or a time limit passed.
    """
    extensions, user_id, started = current_app.extensions, g.get("user_id", ""), time.perf_counter()
    pool: Pool = extensions["pool"]
    outage: Outage = extensions["outage"]
    try:
        with pool.acquire(user_id, may_block=may_block) as conn:
            row = conn.fetch_row(extensions["statements"][name], {**values, "user_id": user_id})
        if outage.began:
            outage.end()
        return row
    except psycopg.errors.ReadOnlySqlTransaction as error:
        pool.drain()  # this server has become a standby
        raise psycopg.OperationalError("the server is read-only") from error
    finally:
        g.database_seconds = g.get("database_seconds", 0.0) + time.perf_counter() - started
