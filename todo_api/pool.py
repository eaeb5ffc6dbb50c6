"""The database connections of one process, and the limits that keep some of them free."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from time import monotonic
from weakref import WeakValueDictionary

import psycopg
from psycopg.errors import LockNotAvailable, QueryCanceled, ReadOnlySqlTransaction
from psycopg_pool import ConnectionPool, TooManyRequests

from todo_api.app import DeadlineExceeded
from todo_api.config import Config
from todo_api.connection import DEADLINE, Connection

POOL_TIMEOUT = 3  # seconds to wait for a free connection
RECENT_USERS = 1000  # whose limits are remembered
STUCK_SECONDS = 1  # a connection that is in use for longer counts as stuck
SHORT_DEADLINE = 2  # seconds to wait for the server while a quarter of the connections are stuck
SLOW_USER_SECONDS = 60  # how long a user counts as slow after a statement ran into a time limit


class Slots(SimpleQueue[None]):
    """A semaphore: `get` takes a slot, `put` frees it. threading.Semaphore, under gevent, yields to others at each release.

    Attributes:
        slow_until: monotonic time until which the user counts as slow, if these are the slots of a user.
    """

    slow_until = 0.0

    def __init__(self, count: int) -> None:
        super().__init__()
        for _ in range(count):
            self.put(None)


class Pool(ConnectionPool[Connection]):
    """The connections of one process. It opens with the first request, because connections do not survive a fork.

    Limits keep connections free for others: a user gets half of them, statements that may wait for a locked row get all but one,
    and users whose statements ran into a time limit share a quarter.

    Attributes:
        waiting: the number of requests that wait for a connection.
        in_use: the connections in use, each with the monotonic time when its request got it.
    """

    def __init__(self, config: Config) -> None:
        # A running request keeps its user's Slots alive. The cache keeps those of recent users, so they are not made again.
        slots_in_use: WeakValueDictionary[str, Slots] = WeakValueDictionary()
        count = config.pool_size // 2 or 1
        self.slots_of = functools.lru_cache(RECENT_USERS)(lambda user: slots_in_use.setdefault(user, Slots(count)))
        self.slow_slots = Slots(config.pool_size // 4 or 1)
        self.blocking_slots = Slots(config.pool_size - 1 or 1)
        self.waiting = 0
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
        """Raise if the connection is dead. Also replace all others, because one cause usually ends all connections."""
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
        user_slots = self.slots_of(user_id)
        limits = [user_slots]
        if user_slots.slow_until > monotonic():
            limits.append(self.slow_slots)
        if may_block:
            limits.append(self.blocking_slots)
        held: list[Slots] = []
        try:
            conn = self._wait_for_connection(limits, held)
            try:
                yield conn
                user_slots.slow_until = 0
            except (DeadlineExceeded, LockNotAvailable, QueryCanceled):
                user_slots.slow_until = monotonic() + SLOW_USER_SECONDS
                raise
            except ReadOnlySqlTransaction as error:
                self.drain()  # this server has become a standby
                raise psycopg.OperationalError("the server is read-only") from error
            finally:
                del self.in_use[conn]
                conn.last_used = monotonic()
                self.putconn(conn)
        finally:
            for slots in held:
                slots.put(None)

    def _wait_for_connection(self, limits: list[Slots], held: list[Slots]) -> Connection:
        give_up = monotonic() + POOL_TIMEOUT
        self.waiting += 1
        try:
            for slots in limits:
                slots.get(timeout=max(0, give_up - monotonic()))
                held.append(slots)
            if self.closed:
                self.open()
            conn = self.getconn(give_up - monotonic())
        except Empty:
            raise TooManyRequests("too many requests of one user, for locked rows, or of slow users") from None
        finally:
            self.waiting -= 1
        now = self.in_use[conn] = monotonic()
        stuck = sum(now > since + STUCK_SECONDS for since in self.in_use.values())
        conn.deadline = DEADLINE if 4 * stuck < self.max_size else SHORT_DEADLINE
        return conn
