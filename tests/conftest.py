"""Shared fixtures: one PostgreSQL server per run and one database per process. Users have random ids, so no test cleans up."""

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from flask import Flask

from dev.postgres import Postgres, new_database
from tests.support.client import Client, application, in_process
from todo_api.migrations import migrate

SERVER = pytest.StashKey[contextlib.ExitStack]()


def pytest_configure(config: pytest.Config) -> None:
    if not os.environ.get("TEST_DATABASE_URL"):  # the worker processes of pytest-xdist inherit it from the first process
        with contextlib.ExitStack() as opened:
            home = opened.enter_context(tempfile.TemporaryDirectory(prefix="todo_test_"))
            server = opened.enter_context(Postgres(Path(home), "fsync=off", "max_connections=300"))
            config.stash[SERVER] = opened.pop_all()
        os.environ["TEST_DATABASE_URL"] = server.url("postgres")


def pytest_unconfigure(config: pytest.Config) -> None:
    if server := config.stash.get(SERVER, None):
        server.close()
        del os.environ["TEST_DATABASE_URL"]


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    """Create this process's own database with the schema. Yield its URL."""
    with new_database(os.environ["TEST_DATABASE_URL"]) as url:
        migrate(url)
        yield url


@pytest.fixture
def empty_database() -> Iterator[str]:
    with new_database(os.environ["TEST_DATABASE_URL"]) as url:
        yield url


@pytest.fixture
def sql(database_url: str) -> Iterator[psycopg.Connection]:
    """Open a direct connection to the database."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        yield conn


@pytest.fixture(scope="session")
def app(database_url: str) -> Iterator[Flask]:
    with application(database_url) as app:
        yield app


@pytest.fixture
def alice(app: Flask) -> Client:
    return Client(in_process(app), f"alice-{uuid.uuid4()}")


@pytest.fixture
def bob(app: Flask) -> Client:
    return Client(in_process(app), f"bob-{uuid.uuid4()}")
