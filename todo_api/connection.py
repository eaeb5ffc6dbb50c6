"""A database connection and its settings. FastConnection in app.py runs the statements."""

import contextlib
import time
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any, Self

import psycopg

from todo_api.outage import Outage

DEADLINE = 11  # seconds to wait for the server; statement_timeout ends a statement before that where it can be set
# One plan fits all values, so PostgreSQL need not plan again. Citus must plan for each value.
SETTINGS = """SET lock_timeout = '5s'; SET statement_timeout = '10s';
SELECT set_config('plan_cache_mode', 'force_generic_plan', false) WHERE to_regclass('pg_dist_partition') IS NULL"""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection with time limits in the server. FastConnection adds one in the service, and runs the statements.

    Attributes:
        deadline: seconds to wait for the server.
        direct: whether the connection leads to PostgreSQL itself, not to a transaction pooler.
        prepares: whether statements are prepared.
        last_used: monotonic time.
        slots: what the pool frees when the connection comes back.
    """

    deadline: float = DEADLINE
    direct = prepares = False
    last_used = 0.0
    slots: Sequence[SimpleQueue[None]] = ()

    @classmethod
    def connect(cls, *args: Any, **kwargs: Any) -> Self:
        """Connect. Set time limits unless there is a transaction pooler. Outage.connect_error records the error, or None.

        Args:
            prepare: whether to prepare statements: "on", "off", or "auto" (unless there is a pooler), the default.
            args, kwargs: as in psycopg.
        """
        prepare = kwargs.pop("prepare", "auto")
        try:
            conn = super().connect(*args, autocommit=True, client_encoding="utf8", **kwargs)
            try:
                conn.configure(prepare)
            except psycopg.Error:
                conn.close()
                raise
        except psycopg.Error as error:
            Outage.connect_error = error
            raise
        Outage.connect_error = None
        return conn

    def configure(self, prepare: str) -> None:
        """Set time limits unless there is a transaction pooler, and choose whether to prepare statements.

        A pooler reports another process id than PostgreSQL. Its clients share connections, so our settings and prepared
        statements would reach them: a client could run our DELETE under the name of its own SELECT.
        """
        self.last_used = time.monotonic()
        self.direct = self.execute("SELECT pg_backend_pid()").fetchone() == (self.info.backend_pid,)
        if self.direct:
            self.execute(SETTINGS)
        self.prepares = prepare == "on" or (prepare == "auto" and self.direct)

    def abandon(self) -> None:
        """Cancel the running statement and close the connection."""
        with contextlib.suppress(psycopg.Error):
            self.cancel_safe(timeout=1)
        self.close()
