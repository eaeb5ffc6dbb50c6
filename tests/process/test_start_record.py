"""The log record of a start: versions, database and settings."""

import platform
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from tests.support.client import ORIGIN, SECRET
from tests.support.server import ROOT, Service
from todo_api import __version__

MIGRATIONS = sorted(path.stem for path in (ROOT / "sql" / "migrations").glob("*.sql"))


def test_a_start_logs_versions_migrations_and_settings(empty_database: str, sql: psycopg.Connection) -> None:
    jwks_url = "https://auth.example.com/jwks"
    with Service(empty_database, DB_POOL_SIZE="5", BETTER_AUTH_JWKS_URL=f"{jwks_url}?token=hunter2") as service:
        (record,) = service.logs("todo_api starts")
        assert SECRET not in service.text()
        assert "hunter2" not in service.text()
    assert (record["version"], record["python"]) == (__version__, platform.python_version())
    assert record["database"]["postgresql"] == sql.info.parameter_status("server_version")
    assert record["database"]["connection"] == "direct"
    assert record["database"]["dbname"] == Path(urlsplit(empty_database).path).name
    assert (record["migrations_applied_now"], record["migrations_total"]) == (MIGRATIONS, len(MIGRATIONS))
    settings = record["settings"]
    assert (settings["DB_POOL_SIZE"], settings["BETTER_AUTH_URL"], settings["METRICS"]) == (5, [ORIGIN], False)
    assert settings["BETTER_AUTH_JWKS_URL"] == jwks_url
    assert not {"BETTER_AUTH_SECRET", "BETTER_AUTH_SECRET_PREVIOUS", "NEON_DATABASE_URL"} & settings.keys()


def test_a_later_start_has_applied_no_migration(database_url: str) -> None:
    with Service(database_url) as service:
        (record,) = service.logs("todo_api starts")
    assert (record["migrations_applied_now"], record["migrations_total"]) == ([], len(MIGRATIONS))
