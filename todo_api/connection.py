"""A database connection: its settings, and how it runs a statement."""

import time
from collections.abc import Mapping
from typing import Any, Self

import psycopg

from todo_api.app import GeventConnection
from todo_api.outage import OutageLog
from todo_api.statements import Statement

RESPONSE_TIMEOUT = 11  # seconds to wait for the server. A direct connection also has statement_timeout, which is shorter.
LOCK_TIMEOUT = 5  # seconds to wait for a locked row
CHECK_AFTER_IDLE_SECONDS, CHECK_SECONDS = 30, 1
# force_generic_plan: one plan fits all values, so PostgreSQL need not plan again. Citus must plan for each value.
SETTINGS = f"""SET lock_timeout = '{LOCK_TIMEOUT}s'; SET statement_timeout = '10s';
SELECT set_config('plan_cache_mode', 'force_generic_plan', false) WHERE to_regclass('pg_dist_partition') IS NULL"""


class Connection(GeventConnection):
    """A connection with time limits in the service and, if possible, in the server.

    Attributes:
        direct: whether the connection leads to PostgreSQL itself, not to a transaction pooler.
        prepares: whether statements are prepared.
        last_used: monotonic time.
    """

    response_timeout: float = RESPONSE_TIMEOUT
    direct = prepares = False
    last_used = 0.0

    @classmethod
    def connect(cls, conninfo: str = "", *, prepare: Any = "auto", **kwargs: Any) -> Self:
        """Connect and configure. Store the error, or None, in OutageLog.connect_error.

        Args:
            prepare: whether to prepare statements: "on", "off", or "auto" (unless there is a pooler).
            conninfo, kwargs: as in psycopg.
        """
        conn = None
        try:
            conn = super().connect(conninfo, autocommit=True, client_encoding="utf8", **kwargs)
            conn._configure(prepare)
            OutageLog.connect_error = None
            return conn
        except psycopg.Error as error:
            if conn:
                conn.close()
            OutageLog.connect_error = error
            raise

    def _configure(self, prepare: str) -> None:
        self.last_used = time.monotonic()
        # A pooler reports another process id than PostgreSQL. Behind it, several clients share a connection to the server. So our
        # settings would apply to other clients. A prepared statement of theirs could also have the name of one of ours, and we
        # would run it.
        self.direct = self.execute("SELECT pg_backend_pid()").fetchone() == (self.info.backend_pid,)
        if self.direct:
            self.execute(SETTINGS)
        self.prepares = prepare == "on" or (prepare == "auto" and self.direct)
        self.raw_cursor = psycopg.RawCursor(self)  # takes $1, $2, …; one for all statements is cheaper than one for each

    def fetch_row(self, statement: Statement, values: Mapping[str, str]) -> tuple[Any, ...]:
        """Run the statement and return its first row, or () if there is none."""
        cursor, arguments = self.raw_cursor, [values[name] for name in statement.parameters]
        try:
            return cursor.execute(statement.text, arguments, prepare=self.prepares).fetchone() or ()
        except psycopg.errors.FeatureNotSupported:
            if not self.prepares:
                raise
            self.execute("DEALLOCATE ALL")  # a migration has changed a result type: the statement must be prepared again
            return cursor.execute(statement.text, arguments, prepare=True).fetchone() or ()

    def check_alive(self) -> None:
        """Raise psycopg.OperationalError if the connection is lost."""
        self.check_not_closed()
        if time.monotonic() > self.last_used + CHECK_AFTER_IDLE_SECONDS:
            self.response_timeout = CHECK_SECONDS  # a firewall may have dropped the connection silently
            self.execute("")
