"""The database connections of one process."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from threading import Semaphore
from typing import Any, Self
from weakref import WeakValueDictionary

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, TooManyRequests

from todo_api.config import Config
from todo_api.outage import remember_connect_error

POOL_TIMEOUT = 3  # seconds to wait for a free connection
DEADLINE = 11  # seconds to wait for the server; statement_timeout ends a statement before that where it can be set
SHORT_DEADLINE = 2  # the same while half of the connections are stuck
STUCK_SECONDS = 1  # a connection that is in use for longer counts as stuck
SLOW_USER_SECONDS = 60  # how long a user counts as slow after a statement ran into a time limit
CHECK_AFTER_IDLE_SECONDS = 30
# A generic plan is right for every statement. Planning for each value costs more than it gains, but Citus needs it.
SETTINGS = """SET lock_timeout = '5s'; SET statement_timeout = '10s';
SELECT set_config('plan_cache_mode', 'force_generic_plan', false) WHERE to_regclass('pg_dist_partition') IS NULL"""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that gives up when the server does not answer.

    Attributes:
        deadline: seconds to wait for the server.
        prepares: whether statements are prepared.
        created, last_used: monotonic times.
    """

    deadline: float = DEADLINE
    prepares = False
    created = last_used = 0.0

    @classmethod
    @remember_connect_error()
    def connect(cls, *args: Any, **kwargs: Any) -> Self:
        return super().connect(*args, **kwargs)

    def fetch_row(self, query: bytes, values: Mapping[str, str]) -> tuple[Any, ...] | None:
        """Run the statement and return its first row, or None if there is none."""
        try:
            return self.execute(query, values, prepare=self.prepares).fetchone()
        except psycopg.errors.FeatureNotSupported:
            if not self.prepares:
                raise
            self.execute("DEALLOCATE ALL")  # a migration has changed a result type: the statement must be prepared again
            return self.execute(query, values, prepare=True).fetchone()

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for the server, but not longer than the deadline: behind a pooler the server itself has no time limit."""
        try:
            return super().wait(gen, interval, self.deadline if timeout is None else timeout)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                with contextlib.suppress(psycopg.Error):
                    self.cancel_safe(timeout=1)
                self.close()
            raise


class Pool(ConnectionPool[Connection]):
    """The connections of one process. It opens with the first request, because connections do not survive a fork.

    Limits keep connections free for others: a user gets half of them, statements that may wait for a locked row get all but one,
    and users whose statements ran into a time limit share a quarter.

    Attributes:
        waiting: the number of requests that wait for a connection.
        in_use: the connections in use, each with the monotonic time when its request got it.
    """

    def __init__(self, config: Config) -> None:
        self.prepare, self.drained = config.prepare, 0.0
        self.user_limit = config.pool_size // 2 or 1
        self.user_slots: WeakValueDictionary[str, Semaphore] = WeakValueDictionary()  # kept alive by the requests that use them
        self.blocking_slots = Semaphore(config.pool_size - 1 or 1)
        self.slow_slots = Semaphore(config.pool_size // 4 or 1)
        self.slow_users: dict[str, float] = {}  # monotonic time until which each counts as slow
        self.waiting = 0
        self.in_use: dict[Connection, float] = {}
        super().__init__(
            config.database_url,
            connection_class=Connection,
            kwargs={"autocommit": True, "client_encoding": "utf8", "fallback_application_name": "todo_api"},
            configure=self.configure,
            check=self.check_alive,
            min_size=1,
            max_size=config.pool_size,
            timeout=POOL_TIMEOUT,
            reconnect_timeout=1,
            open=False,
        )

    @remember_connect_error()
    def configure(self, conn: Connection) -> None:
        """Set time limits and prepare statements, unless a transaction pooler is in between.

        Behind a pooler, settings and prepared statements would reach other clients: a client could run our DELETE under the name
        of its own SELECT.
        """
        conn.created = conn.last_used = time.monotonic()
        direct = is_direct(conn)
        if direct:
            conn.execute(SETTINGS)
        conn.prepares = self.prepare == "on" or (self.prepare == "auto" and direct)

    def check_alive(self, conn: Connection) -> None:
        """Refuse a dead connection before it is used, and replace all others that are as old: they are mostly dead too."""
        try:
            conn.pgconn.consume_input()  # reads what the server sent when it closed the connection; no round trip
            conn.pgconn.consume_input()  # fails if that was the end
            if time.monotonic() > conn.last_used + CHECK_AFTER_IDLE_SECONDS:
                self.check_connection(conn)
        except psycopg.OperationalError:
            if conn.created > self.drained:
                self.drained = time.monotonic()
                self.drain()
            raise

    @contextlib.contextmanager
    def acquire(self, user_id: str, *, may_block: bool) -> Iterator[Connection]:
        """Use a connection for one statement of the user.

        Raises:
            psycopg.OperationalError: no connection was free in time, or the user's limit was reached.
        """
        give_up = time.monotonic() + POOL_TIMEOUT
        if (user_slots := self.user_slots.get(user_id)) is None:
            user_slots = self.user_slots[user_id] = Semaphore(self.user_limit)
        with contextlib.ExitStack() as held:
            self.waiting += 1
            try:
                if self.slow_users.get(user_id, 0) > time.monotonic():
                    self._acquire(self.slow_slots, 0, held)
                self._acquire(user_slots, give_up - time.monotonic(), held)
                if may_block:
                    self._acquire(self.blocking_slots, give_up - time.monotonic(), held)
                if self.closed:
                    self.open()
                conn = self.getconn(give_up - time.monotonic())
            finally:
                self.waiting -= 1
            started = self.in_use[conn] = time.monotonic()
            held.callback(self._release, conn)
            stuck = sum(started > since + STUCK_SECONDS for since in self.in_use.values())
            conn.deadline = DEADLINE if 2 * stuck < self.max_size else SHORT_DEADLINE
            try:
                yield conn
            except psycopg.OperationalError:
                if time.monotonic() > started + STUCK_SECONDS:
                    self._remember_slow(user_id)
                raise
            self.slow_users.pop(user_id, None)

    def _acquire(self, slots: Semaphore, timeout: float, held: contextlib.ExitStack) -> None:
        if not slots.acquire(timeout=max(0, timeout)):
            raise TooManyRequests("too many requests of one user, for locked rows, or of slow users")
        held.callback(slots.release)

    def _release(self, conn: Connection) -> None:
        del self.in_use[conn]
        conn.last_used = time.monotonic()
        self.putconn(conn)

    def _remember_slow(self, user_id: str) -> None:
        now = time.monotonic()
        self.slow_users = {user: until for user, until in self.slow_users.items() if until > now}
        self.slow_users[user_id] = now + SLOW_USER_SECONDS


def is_direct(conn: Connection) -> bool:
    """Whether the connection leads to PostgreSQL itself: a transaction pooler makes up the process id."""
    return conn.execute("SELECT pg_backend_pid()").fetchone() == (conn.info.backend_pid,)
