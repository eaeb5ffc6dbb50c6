"""Brings the database's schema up to `sql/migrations/`."""

import time
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import DeadlockDetected, LockNotAvailable

from todo_api.pool import Connection
from todo_api.statements import SQL

LOCK = 0x746F646F  # "todo"; any number will do that no other user of the database takes
PATIENCE, PAUSE = 60, 2  # seconds to go on trying for a lock, and between two attempts, when requests pass
APPLIED = "SELECT version FROM schema_migrations"
BOOK = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version text PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


def migrate(database_url: str) -> list[str]:
    """Apply what is missing, in the order of the files' names, each in a transaction of its own.

    Any number of processes may do this at once: an advisory lock lets in one after the other. The end of the transaction frees
    it, behind a pooler too.

    Returns:
        The names of the files applied, without `.sql`.

    Raises:
        SystemExit: the database cannot be reached or refuses; one line, without the password.
    """
    files = {path.stem: path.read_bytes() for path in (SQL / "migrations").glob("*.sql")}
    try:
        # The first look has a deadline, which a pooler without a server needs; a migration may take its time.
        with Connection.connect(database_url, prepare_threshold=None) as conn:
            if (encoding := conn.info.parameter_status("server_encoding")) not in ("UTF8", None):
                raise psycopg.NotSupportedError(f"its encoding is {encoding}, which cannot hold every text; UTF8 is needed")
            begun = conn.execute("SELECT to_regclass('schema_migrations') IS NOT NULL").fetchone() == (True,)
            if begun and files.keys() <= {version for (version,) in conn.execute(APPLIED)}:
                return []
        with psycopg.connect(database_url, autocommit=True, prepare_threshold=None) as conn:
            return [version for version in sorted(files) if _apply(version, files[version], conn, database_url)]
    except psycopg.Error as error:
        options = conninfo_to_dict(database_url)
        place = f"{options.get('host') or 'the local socket'}, port {options.get('port') or 5432}"
        raise SystemExit(f"todo_api cannot use NEON_DATABASE_URL ({place}): {' '.join(str(error).split())}") from None


def _apply(version: str, file: bytes, conn: psycopg.Connection[Any], database_url: str) -> bool:
    """Apply the file, unless it is applied; whether it was not."""
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            with conn.transaction():
                # While a migration waits for its lock, requests wait behind it: less than their own 5 s.
                conn.execute("SET LOCAL lock_timeout = '1s'")
                conn.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
                conn.execute(BOOK)
                if (version,) in conn.execute(APPLIED):
                    return False
                if file.startswith(b"-- No transaction"):
                    with psycopg.connect(database_url, autocommit=True, prepare_threshold=None) as outside:
                        for statement in file.split(b";\n"):
                            outside.execute(statement)
                else:
                    conn.execute(file)
                conn.execute("INSERT INTO schema_migrations (version) VALUES (%s)", [version])
                return True
        except (LockNotAvailable, DeadlockDetected):
            if time.monotonic() > give_up:
                raise
            time.sleep(PAUSE)
