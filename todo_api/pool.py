"""The database connections of one process."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import psycopg
from psycopg.errors import LockNotAvailable, QueryCanceled, ReadOnlySqlTransaction
from psycopg_pool import ConnectionPool

from todo_api.app import ResponseTimeout
from todo_api.config import Config
from todo_api.connection import LOCK_TIMEOUT, RESPONSE_TIMEOUT, Connection
from todo_api.limits import Limits

POOL_TIMEOUT = 3  # seconds to wait for a free connection
STUCK_SECONDS = 1  # a connection that is in use for longer counts as stuck
SHORT_RESPONSE_TIMEOUT = 2  # seconds to wait for the server while at least a quarter of the connections are stuck


class Pool(ConnectionPool[Connection]):
    """The connections of one process. It opens with the first request, because connections do not survive a fork.

    Attributes:
        in_use: the connections in use, each with the monotonic time from which it counts as stuck.
    """

    def __init__(self, config: Config) -> None:
        self.limits = Limits(config.pool_size)
        self.in_use: dict[Connection, float] = {}
        super().__init__(
            config.database_url,
            connection_class=Connection,
            kwargs={"prepare": config.prepare, "fallback_application_name": "todo_api"},
            check=self.check_alive,
            min_size=1,
            max_size=config.pool_size,
            timeout=POOL_TIMEOUT,
            reconnect_timeout=1,
            open=False,
        )

    def check_alive(self, conn: Connection) -> None:
        """Raise if the connection is dead. Before that, let the pool replace all others: what ended one has usually ended all."""
        try:
            conn.check_alive()
        except psycopg.OperationalError:
            self.drain()
            raise

    @contextmanager
    def acquire(self, user_id: str, *, may_block: bool) -> Iterator[Connection]:
        """Lend a connection for one statement of the user.

        Raises:
            psycopg.OperationalError: no connection was free in time, or a limit was reached.
        """
        give_up = monotonic() + POOL_TIMEOUT
        lock_seconds = LOCK_TIMEOUT if may_block else 0
        groups = self.limits.groups(user_id, may_block=may_block)
        self.limits.acquire(groups, POOL_TIMEOUT)
        conn = None
        try:
            conn = self._take(max(1, give_up - monotonic()), lock_seconds)  # after a long wait, still leave time to connect
            yield conn
            self.limits.forget_slow(user_id)
        except (ResponseTimeout, LockNotAvailable, QueryCanceled):
            self.limits.remember_slow(user_id)
            raise
        except ReadOnlySqlTransaction as error:
            self.drain()  # this server has become a standby
            raise psycopg.OperationalError("the server is read-only") from error
        finally:
            if conn:
                del self.in_use[conn]
                conn.last_used = monotonic()
                self.putconn(conn)
            self.limits.release(groups)

    def _take(self, timeout: float, lock_seconds: float) -> Connection:
        """Get a connection for a statement that may wait `lock_seconds` for a locked row: it is not stuck while it waits."""
        if self.closed:
            self.open()
        conn = self.getconn(timeout)
        now = monotonic()
        self.in_use[conn] = now + STUCK_SECONDS + lock_seconds
        stuck = sum(now > since for since in list(self.in_use.values()))
        conn.response_timeout = RESPONSE_TIMEOUT if stuck < self.max_size / 4 else SHORT_RESPONSE_TIMEOUT + lock_seconds
        return conn

    @property
    def waiting(self) -> int:
        """The number of requests that wait for a connection."""
        return len(self.limits.waiting) + self.get_stats()["requests_waiting"]
