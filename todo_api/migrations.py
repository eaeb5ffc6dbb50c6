"""Applies the migrations in `sql/migrations/` to the database."""

import re
import time

import psycopg

from todo_api.connection import Connection
from todo_api.database_url import host_and_port
from todo_api.outage import server_message
from todo_api.statements import SQL

LOCK = 0x746F646F  # the key of the advisory lock: "todo" in ASCII
LOCK_RETRY_SECONDS = 60  # how long to retry when a lock is not free
RETRY_INTERVAL = 2  # seconds between two attempts, in which waiting requests run
SELECT_APPLIED = "SELECT version FROM schema_migrations"
CREATE_MIGRATIONS_TABLE = """CREATE TABLE IF NOT EXISTS schema_migrations (
    version text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"""
# A migration may take long. While a "-- No transaction" file runs on its own connection, the transaction that holds the lock is
# idle. pg_settings lists only the settings that exist: transaction_timeout is new in PostgreSQL 17.
REMOVE_TIME_LIMITS = """SELECT set_config(name, '0', %s) FROM pg_settings
WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')"""
# Short, because while a migration waits for a lock, requests queue behind it, and they fail after 5 s.
SET_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '1s'"
# A statement ends at a `;`, but not at one in a comment, a string or a quoted name. BEGIN ATOMIC and nested comments do not work.
STATEMENT = rb"""(?sx)
    (?: --[^\n]* | /\*.*?\*/                              # comments
      | \b[eE]'(?:\\.|''|[^'\\])*' | '[^']*' | "[^"]*"    # strings and quoted names
      | (?<![\w$]) (\$(?:[a-zA-Z_]\w*)?\$) .*? \1         # dollar-quoted strings
      | [^;] )+"""


def migrate(database_url: str) -> list[str]:
    """Apply the missing migrations in the order of their names, each in its own transaction. Return their names, without `.sql`.

    Several processes may call this at once: an advisory lock, which works behind a pooler too, admits one at a time.

    Raises:
        SystemExit: the database is unreachable or rejects a migration. One line, without the password.
    """
    files = {path.stem: path.read_bytes() for path in (SQL / "migrations").glob("*.sql")}
    name, applied = "", []
    try:
        # Connection has a time limit, because a pooler that cannot reach PostgreSQL never responds. psycopg.connect has none,
        # because a migration may take long.
        with Connection.connect(database_url) as conn:
            if (encoding := conn.info.parameter_status("server_encoding")) not in ("UTF8", None):
                raise psycopg.NotSupportedError(f"its encoding is {encoding}, but the service needs UTF8")
            direct = conn.direct
            exists = conn.execute("SELECT to_regclass('schema_migrations') IS NOT NULL").fetchone() == (True,)
            if exists and files.keys() <= {version for (version,) in conn.execute(SELECT_APPLIED)}:
                return []
        with psycopg.connect(database_url, prepare_threshold=None, client_encoding="utf8") as conn:
            for name in sorted(files):
                if _apply(name, files[name], conn, database_url, direct=direct):
                    applied.append(name)
        return applied
    except psycopg.Error as error:
        place = "{host}, port {port}".format(**host_and_port(database_url))
        task = f"apply migration {name} to" if name else "use"
        raise SystemExit(f"todo_api cannot {task} NEON_DATABASE_URL ({place}): {server_message(error)}") from None


def _apply(name: str, file: bytes, conn: psycopg.Connection, url: str, *, direct: bool) -> bool:
    """Apply the file unless it is already applied. Return whether it was applied now."""
    give_up = time.monotonic() + LOCK_RETRY_SECONDS
    while True:
        try:
            with conn.transaction():
                conn.execute(REMOVE_TIME_LIMITS, [True])
                conn.execute(SET_LOCK_TIMEOUT)
                conn.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
                conn.execute(CREATE_MIGRATIONS_TABLE)
                if (name,) in conn.execute(SELECT_APPLIED):
                    return False
                if file.startswith(b"-- No transaction"):
                    with psycopg.connect(url, autocommit=True, client_encoding="utf8") as separate:
                        if direct:  # through a pooler, this would apply to other clients too
                            separate.execute(REMOVE_TIME_LIMITS, [False])
                        _run(file, separate)
                else:
                    _run(file, conn)
                conn.execute("INSERT INTO schema_migrations (version) VALUES (%s)", [name])
                return True
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            if time.monotonic() > give_up:
                raise
            time.sleep(RETRY_INTERVAL)


def _run(file: bytes, conn: psycopg.Connection) -> None:
    for statement in re.finditer(STATEMENT, file):  # Citus rejects several at once on a distributed table
        conn.execute(statement[0])
