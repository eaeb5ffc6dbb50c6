"""The database server and the databases of the benchmarks."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dev.postgres import Postgres, new_database
from todo_api.migrations import migrate


@contextlib.contextmanager
def server(*settings: str) -> Iterator[tuple[str, int | None]]:
    """Yield BENCH_DATABASE_URL and None, or start an embedded server with fsync on and yield its URL and process id."""
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
def database(server_url: str) -> Iterator[str]:
    """Create a database with the schema and yield its URL. Drop it at the end."""
    with new_database(server_url) as url:
        migrate(url)
        yield url
