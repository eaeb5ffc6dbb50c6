"""Runs the statements of `sql/` by name."""

import atexit
import os
import time
from collections.abc import Mapping
from typing import Any

from flask import Flask, current_app, g

from todo_api.config import Config
from todo_api.outage import OutageLog
from todo_api.pool import Pool
from todo_api.statements import SQL, read_statement


def init_app(app: Flask, config: Config) -> None:
    # libpq sends PGTZ as a start-up parameter, which PgBouncer keeps for each client. A SET would affect other clients too.
    os.environ["PGTZ"] = "UTC"
    # connect_timeout does not cover name resolution: the C library may wait far longer by default.
    os.environ.setdefault("RES_OPTIONS", "timeout:2 attempts:2")
    app.extensions["pool"] = pool = Pool(config)
    atexit.register(pool.close)  # also runs in each worker, which inherits it
    app.extensions["statements"] = {path.stem: read_statement(path) for path in SQL.glob("*.sql")}


def execute(name: str, values: Mapping[str, str], *, may_block: bool = False) -> tuple[Any, ...]:
    """Run the statement of `sql/{name}.sql` with these values and the `user_id` of the request.

    It sets `g.database_seconds` to the time that this took, including the wait for a connection.

    Args:
        name: name of the file.
        values: the parameters of the statement, as text.
        may_block: whether the statement may wait for a locked row. Together, such statements can use all but one connection.

    Returns:
        The first row, or () if there is none.

    Raises:
        psycopg.OperationalError: there was no connection in time, it was lost, or a time limit passed.
    """
    extensions, started = current_app.extensions, time.perf_counter()
    outage_log: OutageLog = extensions["outage_log"]
    pool: Pool = extensions["pool"]
    user_id = g.get("user_id", "")
    try:
        with pool.acquire(user_id, may_block=may_block) as conn:
            row = conn.fetch_row(extensions["statements"][name], {**values, "user_id": user_id})
        if outage_log.began:
            outage_log.end()
        return row
    finally:
        g.database_seconds = time.perf_counter() - started
