import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.postgres import Postgres
from tests.support.server import Service


@pytest.fixture(scope="session")
def service(database_url: str) -> Iterator[Service]:
    """Start one service that all tests share. A test must leave it working."""
    with Service(database_url) as service:
        yield service


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """Start a PostgreSQL server that the test may stop and start."""
    with tempfile.TemporaryDirectory(prefix="todo_test_") as home, Postgres(Path(home)) as server:
        yield server
