"""The database of a benchmark."""

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg.sql import SQL, Identifier

from dev.postgres import Postgres
from todo_api.migrations import migrate


@contextlib.contextmanager
def server(*settings: str) -> Iterator[tuple[str, int | None]]:
    """BENCH_DATABASE_URL; without it the URL and the process id of an embedded server, durable as PostgreSQL is by default."""
    if url := os.environ.get("BENCH_DATABASE_URL"):
        yield url, None
        return
    home = Path(tempfile.mkdtemp(prefix="todo_bench_", dir="/var/tmp"))  # /tmp may be memory, where fsync costs nothing
    try:
        with Postgres(home, *settings) as postgres:
            assert postgres.process
            yield postgres.url("postgres"), postgres.process.pid
    finally:
        shutil.rmtree(home)


@contextlib.contextmanager
def database(url: str) -> Iterator[str]:
    """The URL of a new database with the schema in it, which is dropped afterwards: what the server has is left alone."""
    name = f"todo_bench_{uuid.uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        try:
            made = urlsplit(url)._replace(path=f"/{name}").geturl()
            migrate(made)
            yield made
        finally:
            conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))
