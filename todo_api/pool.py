"""The database connections of one process, and the limits that keep some of them free."""

import functools
import time
from collections.abc import Mapping
from queue import Empty, SimpleQueue
from typing import Any
from weakref import WeakValueDictionary

import psycopg
from psycopg_pool import ConnectionPool, TooManyRequests

from todo_api.app import FastConnection
from todo_api.config import Config
from todo_api.connection import DEADLINE
from todo_api.statements import Statement

POOL_TIMEOUT = 3  # seconds to wait for a free connection
RECENT_USERS = 1000
STUCK_SECONDS = 1  # a connection that is in use for longer counts as stuck
SHORT_DEADLINE = 2  # seconds to wait for the server while a quarter of the connections are stuck
SLOW_USER_SECONDS = 60  # how long a user counts as slow after a statement ran into a time limit


class Slots(SimpleQueue[None]):
    """A semaphore: `get` takes a slot, `put` frees it. threading.Semaphore, under gevent, yields to others at each release."""

    def __init__(self, count: int) -> None:
        super().__init__()
        for _ in range(count):
            self.put(None)


class Pool(ConnectionPool[FastConnection]):
    """The connections of one process. It opens with the first request, because connections do not survive a fork.

    Limits keep connections free for others: a user gets half of them, statements that may wait for a locked row get all but one,
    and users whose statements ran into a time limit share a quarter.

    Attributes:
        waiting: the number of requests that wait for a connection.
        in_use: the connections in use, each with the monotonic time when its request got it.
    """

    def __init__(self, config: Config) -> None:
        # A running request keeps its user's Slots alive. The cache keeps those of recent users, so they are not made again.
        user_slots: WeakValueDictionary[str, Slots] = WeakValueDictionary()
        user_limit = config.pool_size // 2 or 1
        self.slots_of = functools.lru_cache(RECENT_USERS)(lambda user: user_slots.setdefault(user, Slots(user_limit)))
        self.blocking_slots = Slots(config.pool_size - 1 or 1)
        self.slow_slots = Slots(config.pool_size // 4 or 1)
        self.slow_users: dict[str, float] = {}  # monotonic time until which each counts as slow
        self.waiting = 0
        self.in_use: dict[FastConnection, float] = {}
        super().__init__(
            config.database_url,
            connection_class=FastConnection,
            kwargs={"prepare": config.prepare, "fallback_application_name": "todo_api"},
            check=self.check_alive,
            min_size=1,
            max_size=config.pool_size,
            timeout=POOL_TIMEOUT,
            reconnect_timeout=1,
            open=False,
        )

    def check_alive(self, conn: FastConnection) -> None:
        """Raise if the connection is dead. Also replace all others, because one cause usually ends all connections."""
        try:
            conn.check_alive()
        except psycopg.OperationalError:
            self.drain()
            raise

    def fetch_row(self, statement: Statement, values: Mapping[str, str], *, may_block: bool) -> tuple[Any, ...] | None:
        """Run a statement of the user `values["user_id"]` and return its first row, or None if there is none.

        Raises:
            psycopg.OperationalError: no connection was free in time, it was lost, or a limit was reached.
        """
        user_id = values["user_id"]
        conn = self.acquire(user_id, may_block=may_block)
        try:
            row = conn.fetch_row(statement, values)
            self.slow_users.pop(user_id, None)
            return row
        except psycopg.errors.ReadOnlySqlTransaction as error:
            self.drain()  # this server has become a standby
            raise psycopg.OperationalError("the server is read-only") from error
        except psycopg.OperationalError:
            if time.monotonic() > self.in_use[conn] + STUCK_SECONDS:
                self._remember_slow(user_id)
            raise
        finally:
            self.release(conn)

    def acquire(self, user_id: str, *, may_block: bool) -> FastConnection:
        """Return a connection for one statement of the user. `release` takes it back.

        Raises:
            psycopg.OperationalError: no connection was free in time, or a limit was reached.
        """
        give_up = time.monotonic() + POOL_TIMEOUT
        limits = [self.slots_of(user_id)]
        if self.slow_users.get(user_id, 0) > time.monotonic():
            limits.append(self.slow_slots)
        if may_block:
            limits.append(self.blocking_slots)
        held: list[Slots] = []
        self.waiting += 1
        try:
            for slots in limits:
                slots.get(timeout=max(0, give_up - time.monotonic()))
                held.append(slots)
            if self.closed:
                self.open()
            conn = self.getconn(give_up - time.monotonic())
        except BaseException as error:
            for slots in held:
                slots.put(None)
            if isinstance(error, Empty):
                raise TooManyRequests("too many requests of one user, for locked rows, or of slow users") from None
            raise
        finally:
            self.waiting -= 1
        conn.slots = held
        now = self.in_use[conn] = time.monotonic()
        stuck = sum(now > since + STUCK_SECONDS for since in self.in_use.values())
        conn.deadline = DEADLINE if 4 * stuck < self.max_size else SHORT_DEADLINE
        return conn

    def release(self, conn: FastConnection) -> None:
        del self.in_use[conn]
        conn.last_used = time.monotonic()
        self.putconn(conn)
        for slots in conn.slots:
            slots.put(None)

    def _remember_slow(self, user_id: str) -> None:
        now = time.monotonic()
        self.slow_users = {user: until for user, until in self.slow_users.items() if until > now}
        self.slow_users[user_id] = now + SLOW_USER_SECONDS
