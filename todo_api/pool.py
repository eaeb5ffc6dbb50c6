"""The database connections of one process."""

import functools
import time
from collections.abc import Mapping
from queue import Empty, SimpleQueue

import psycopg
from psycopg import generators
from psycopg.abc import RV, PQGen
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg_pool import ConnectionPool, TooManyRequests

from todo_api.config import Config
from todo_api.statements import Row, Statement

POOL_TIMEOUT = 3  # seconds to wait for a free connection; gunicorn bounds how many requests may
DEADLINE = 11  # seconds to wait for an answer; statement_timeout comes first where it can be set
MAX_USERS = 1000  # whose limits are kept at a time
TRUSTED_SECONDS = 30  # how long after its last use a connection is not asked whether it still works
# Every statement has one good plan; making one for each value costs more than it gains, but Citus has no other kind.
SETTINGS = """SET lock_timeout = '5s'; SET statement_timeout = '10s';
SELECT set_config('plan_cache_mode', 'force_generic_plan', false) WHERE to_regclass('pg_dist_partition') IS NULL"""


class Connection(psycopg.Connection):
    made = trusted_until = 0.0  # monotonic time
    places: list[SimpleQueue[None]]  # one of each limit, while a request has it
    prepared: set[bytes] | None = None  # the statements that the server keeps for this connection; None where it may keep none

    def run(self, statement: Statement, values: Mapping[str, str]) -> Row | None:
        """The first row, or None without one.

        In libpq's own terms: text goes in and JSON comes out. A cursor, with nothing to convert, would take twice as long.
        """
        given = [values[name].encode() for name in statement.parameters]
        if b"\0" in b"".join(given):
            raise psycopg.DataError("a value holds U+0000, where libpq would end it")
        if self.prepared is None:
            self.pgconn.send_query_params(statement.text, given)
        else:
            if statement.name not in self.prepared:
                self.pgconn.send_prepare(statement.name, statement.text)
                self.result()
                self.prepared.add(statement.name)
            self.pgconn.send_query_prepared(statement.name, given)
        result = self.result()
        return tuple(result.get_value(0, column) for column in range(result.nfields)) if result.ntuples else None

    def result(self) -> PGresult:
        """What the server makes of what was sent to it."""
        result: PGresult
        # One result; where the connection breaks, none, or another one that says so.
        for result in self.wait(generators.execute(self.pgconn)):
            if result.status in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
                return result
            raise error_from_result(result)
        raise psycopg.OperationalError("the connection is lost")

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Give up after a while also where the server sets no limit: behind a pooler, or when the network swallows the answer."""
        try:
            return super().wait(gen, interval, DEADLINE if timeout is None else timeout)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.close()  # its statement may still run
            raise


class Pool(ConnectionPool[Connection]):
    """The connections of one process, which opens them with its first request: they do not survive a fork."""

    def __init__(self, config: Config) -> None:
        self.prepare, self.drained = config.prepare, 0.0
        # Of each user, half of the connections; of all changes together, which may wait for locked rows, all but one.
        self.places_of = functools.lru_cache(MAX_USERS)(lambda _user_id: places(config.pool_size // 2 or 1))
        self.places_for_changes = places(config.pool_size - 1 or 1)
        super().__init__(
            config.database_url,
            connection_class=Connection,
            kwargs={"autocommit": True, "client_encoding": "utf8", "fallback_application_name": "todo_api"},
            configure=self.set_up,
            check=self.look_at,
            min_size=1,
            max_size=config.pool_size,
            timeout=POOL_TIMEOUT,
            reconnect_timeout=1,
            open=False,
        )

    def set_up(self, conn: Connection) -> None:
        """Set time limits, unless a transaction pooler is in between, which is known by the process id that it makes up.

        Behind one, settings and prepared statements would end up with the next client on the same server connection: it would run
        our statement under the name of its own, a DELETE for a SELECT.
        """
        conn.made = time.monotonic()
        direct = conn.execute("SELECT pg_backend_pid()").fetchone() == (conn.info.backend_pid,)
        if direct:
            conn.execute(SETTINGS)
        conn.prepared = set() if self.prepare == "on" or (self.prepare == "auto" and direct) else None

    def look_at(self, conn: Connection) -> None:
        """Before each use: refuse a dead connection, and all others of its time, since what ended one has mostly ended all."""
        try:
            conn.pgconn.consume_input()  # what the server said when it closed the connection, if it did
            conn.pgconn.consume_input()  # and the end; to see that there is neither costs no round trip
            if conn.trusted_until < time.monotonic():
                self.check_connection(conn)
        except psycopg.OperationalError:
            if conn.made > self.drained:
                self.drained = time.monotonic()
                self.drain()
            raise
        conn.trusted_until = time.monotonic() + TRUSTED_SECONDS

    def take(self, user_id: str, *, change: bool) -> Connection:
        """A connection for the user, within the limits; psycopg.OperationalError when there is none in time."""
        deadline, taken = time.monotonic() + POOL_TIMEOUT, list[SimpleQueue[None]]()
        try:
            for places in (self.places_of(user_id), self.places_for_changes) if change else (self.places_of(user_id),):
                places.get(timeout=max(0, deadline - time.monotonic()))
                taken.append(places)
            if self.closed:
                self.open()
            conn = self.getconn(deadline - time.monotonic())
            conn.places, taken = taken, []
            return conn
        except Empty:
            raise TooManyRequests("too many requests of one user, or changes, at once") from None
        finally:
            for places in taken:
                places.put(None)

    def give_back(self, conn: Connection) -> None:
        for places in conn.places:
            places.put(None)
        self.putconn(conn)


def places(count: int) -> SimpleQueue[None]:
    """A semaphore, where one of threading's would cost 4 % of a request."""
    free: SimpleQueue[None] = SimpleQueue()
    for _ in range(count):
        free.put(None)
    return free
