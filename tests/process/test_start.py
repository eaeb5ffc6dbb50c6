"""The start: errors are printed in one line, and the schema is migrated once."""

import os
import re
import signal
import socket
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.support.client import SECRET
from tests.support.load import both_workers, locked
from tests.support.server import PASSWORD, ROOT, Service, free_port, only_line, run_to_end, wait_until
from todo_api.migrations import LOCK

REQUIRED = ("BETTER_AUTH_SECRET", "NEON_DATABASE_URL", "BETTER_AUTH_URL")


@pytest.mark.parametrize("empty", [*([name] for name in REQUIRED), REQUIRED], ids=" ".join)
def test_missing_variables_end_it_with_one_line_that_names_them(database_url: str, empty: list[str]) -> None:
    line = only_line(run_to_end(database_url, **dict.fromkeys(empty, "")))
    assert [name for name in REQUIRED if name in line] == list(empty)


@pytest.mark.parametrize(
    ("env", "complaint"),
    [
        ({"BETTER_AUTH_SECRET": PASSWORD * 4}, "BETTER_AUTH_SECRET is shorter than 32 bytes"),
        ({"BETTER_AUTH_URL": f"https://app.example.com/{PASSWORD}"}, "BETTER_AUTH_URL must be one or more origins"),
        ({"DEBUG": PASSWORD}, "DEBUG must be true or false"),
        ({"DB_POOL_SIZE": PASSWORD}, "DB_POOL_SIZE must be a whole number"),
        ({"PORT": PASSWORD}, "PORT must be a whole number"),
        ({"WEB_CONCURRENCY": "0"}, "WEB_CONCURRENCY must be a whole number"),
        ({"DEBUG": PASSWORD, "BETTER_AUTH_SECRET": PASSWORD}, "DEBUG"),
    ],
)
def test_a_bad_setting_ends_it_with_one_line_that_names_it(database_url: str, env: dict[str, str], complaint: str) -> None:
    line = only_line(run_to_end(database_url, **env))
    assert complaint in line
    assert all(name in line for name in env)


@pytest.mark.parametrize(("port", "bind"), [("", "127.0.0.1:8000"), ("10000", "0.0.0.0:10000")])
def test_gunicorn_listens_where_a_platform_says(database_url: str, port: str, bind: str) -> None:
    service = Service(database_url, PORT=port)
    command = [*service.command[:4], "--print-config"]
    printed = subprocess.run(command, check=True, cwd=ROOT, env=service.env, capture_output=True, text=True, timeout=60).stdout
    assert re.findall(r"^bind += (.*)", printed, re.MULTILINE) == [f"['{bind}']"]


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://user:{PASSWORD}@127.0.0.1/todo",
        f"user:{PASSWORD}@127.0.0.1/todo",
        f"host=127.0.0.1 password={PASSWORD}",
        f"'postgresql://user:{PASSWORD}@127.0.0.1/todo'",
        f"postgresql://user:{PASSWORD}@at@127.0.0.1/todo",
        f"postgresql://user:at@{PASSWORD}@127.0.0.1/todo",
        f"postgresql://user:a/slash{PASSWORD}@127.0.0.1/todo",
        f"postgresql://user:a space{PASSWORD}@127.0.0.1/todo",
        f"postgresql://user:{PASSWORD}%zz@127.0.0.1/todo",
        f"postgresql://user:{PASSWORD}@[::1/todo",
        f"postgresql://user:{PASSWORD}@127.0.0.1:port/todo",
        f"postgresql://user@127.0.0.1/todo?sslmode={PASSWORD}",
    ],
)
def test_a_malformed_database_url_ends_it_without_showing_the_password(url: str) -> None:
    assert "NEON_DATABASE_URL" in only_line(run_to_end(url))


@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
def test_a_database_out_of_reach_ends_it_with_its_host_and_port(host: str) -> None:
    port = free_port()
    line = only_line(run_to_end(f"postgresql://user:{PASSWORD}@{host}:{port}/todo"))
    assert all(word in line for word in ("NEON_DATABASE_URL", host, str(port)))


@pytest.mark.long
def test_a_database_that_stays_silent_ends_it_with_its_host_and_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        service = Service(f"postgresql://user:{PASSWORD}@127.0.0.1:{port}/todo")
        line = only_line(
            subprocess.run(service.command, check=False, cwd=ROOT, env=service.env, capture_output=True, text=True, timeout=15)
        )
    assert all(word in line for word in ("NEON_DATABASE_URL", "127.0.0.1", str(port)))


@pytest.mark.parametrize(("user", "database"), [("nobody", "postgres"), ("", "nowhere")], ids=["role", "database"])
def test_a_database_that_refuses_ends_it_with_its_host_and_port(sql: psycopg.Connection, user: str, database: str) -> None:
    parts = urlsplit(os.environ["TEST_DATABASE_URL"])
    user = user or parts.username or ""
    location = parts.netloc.rpartition("@")[2]
    line = only_line(run_to_end(parts._replace(netloc=f"{user}:{PASSWORD}@{location}", path=f"/{database}").geturl()))
    assert all(word in line for word in ("NEON_DATABASE_URL", sql.info.host, str(sql.info.port)))


def test_a_database_that_cannot_hold_every_text_ends_it(sql: psycopg.Connection) -> None:
    name = f"latin_{uuid.uuid4().hex}"
    sql.execute(f"CREATE DATABASE {name} ENCODING LATIN1 LOCALE 'C' TEMPLATE template0")
    try:
        line = only_line(run_to_end(urlsplit(os.environ["TEST_DATABASE_URL"])._replace(path=f"/{name}").geturl()))
        assert "its encoding is LATIN1" in line
    finally:
        sql.execute(f"DROP DATABASE {name}")


def migrations(database_url: str) -> list[tuple[object, ...]]:
    """Return the applied migrations and their times."""
    with psycopg.connect(database_url) as conn:
        return conn.execute("SELECT version, applied_at FROM schema_migrations ORDER BY version").fetchall()


def test_the_schema_is_made_at_the_first_start_and_left_alone_at_the_next(empty_database: str) -> None:
    with Service(empty_database) as service:
        task = service.client("alice").create()
        first = migrations(empty_database)
    with Service(empty_database) as service:
        assert service.client("alice").list() == [task]
    assert [version for version, _ in first] == sorted(path.stem for path in (ROOT / "sql" / "migrations").iterdir())
    assert migrations(empty_database) == first


def test_a_worker_that_starts_later_leaves_the_schema_alone(empty_database: str) -> None:
    with Service(empty_database, WEB_CONCURRENCY="1") as service, psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute("DROP TABLE schema_migrations")
        (worker,) = service.workers()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: service.workers() not in ([], [worker]), "a new worker runs")
        assert service.client("alice").create()
        assert conn.execute("SELECT to_regclass('schema_migrations')").fetchone() == (None,)


@pytest.mark.long
def test_eight_services_that_start_at_once_apply_each_migration_once(empty_database: str, sql: psycopg.Connection) -> None:
    name = urlsplit(empty_database).path[1:]
    connected = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
    with ExitStack() as running, ThreadPoolExecutor(8) as threads:
        with psycopg.connect(empty_database) as gate:
            gate.execute("CREATE TABLE schema_migrations ()")  # all services wait until this is rolled back
            starting = [threads.submit(running.enter_context, Service(empty_database)) for _ in range(8)]
            wait_until(lambda: sql.execute(connected, [name]).fetchone() == (1 + 8,), "all eight are connected")
            gate.rollback()
        services = [each.result() for each in starting]
        assert [len(both_workers(service)) for service in services] == [2] * 8
        assert [service.client("alice").create()["id"] for service in services] == list(range(1, 9))
        assert len(migrations(empty_database)) == len(list((ROOT / "sql" / "migrations").iterdir()))
        for service in services:
            service.process.terminate()  # all at once, so that they stop at the same time


def test_a_start_that_waits_can_be_stopped(empty_database: str, tmp_path: Path) -> None:
    service = Service(empty_database, METRICS="true", TMPDIR=str(tmp_path))
    with psycopg.connect(empty_database) as other, psycopg.connect(empty_database, autocommit=True) as sql:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        starting = subprocess.Popen(service.command, env=service.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT)
        wait_until(lambda: locked(sql, "pg_advisory_xact_lock"), "the start waits for the lock")
        starting.terminate()
        output, _ = starting.communicate(timeout=15)
    assert (starting.returncode, output) == (0, b"")
    assert list(tmp_path.iterdir()) == []


def test_no_module_for_tests_or_terminals_is_imported(database_url: str) -> None:
    """Such modules use memory, and make system calls for which systemd's filter in `deploy/` kills a service."""
    command = [
        sys.executable,
        "-c",
        "import sys, wsgi; print({'flask.testing', 'pdb', 'readline', 'unittest'} & sys.modules.keys())",
    ]
    assert subprocess.check_output(command, cwd=ROOT, env=Service(database_url).env, text=True).strip() == "set()"


@pytest.mark.long
def test_start_and_stop_are_records_of_the_log(database_url: str) -> None:
    with Service(database_url) as service:
        assert service.stop() == 0
        records = service.logs()
    messages = [record["message"] for record in records]
    assert any(message.startswith(f"Listening at: http://127.0.0.1:{service.port}") for message in messages)
    assert messages[-1] == "Shutting down: Master"
    # gunicorn logs this as an error if a worker gets the signal before it can handle it.
    problems = [each for each in records if each["level"] != "INFO" and "was sent SIGTERM" not in each["message"]]
    assert problems == []
    assert all(record.keys() >= {"time", "logger"} for record in records)


def test_debug_shows_more_in_the_log_and_nothing_to_clients(empty_database: str) -> None:
    with Service(empty_database, DEBUG="true") as service, psycopg.connect(empty_database, autocommit=True) as conn:
        alice = service.client("alice")
        conn.execute("DROP TABLE tasks CASCADE")
        answer = alice.call("GET")
        assert (answer.status, answer.json) == (500, {"detail": "Internal server error"})
        assert service.logs("unhandled error")[0]["error"] == "UndefinedTable"
        assert "DEBUG" in {record["level"] for record in service.logs()}
        assert SECRET not in service.text()
        assert alice.headers["Authorization"].split()[1] not in service.text()
