"""gunicorn's master: --check-config, reloads with `.env`, a second master, and the metrics folder."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.client import SECRET
from tests.support.load import both_workers
from tests.support.server import PASSWORD, ROOT, Service, next_release, only_line, wait_until
from todo_api.tokens import make_token


@pytest.mark.parametrize("option", ["--check-config", "--print-config"])
def test_a_check_of_the_configuration_does_not_migrate(empty_database: str, option: str) -> None:
    service = Service(empty_database, option)
    subprocess.run(service.command, check=True, cwd=ROOT, env=service.env, capture_output=True, timeout=60)
    with psycopg.connect(empty_database) as conn:
        assert conn.execute("SELECT to_regclass('schema_migrations')").fetchone() == (None,)


def reads_env_file(database_url: str, folder: Path, text: str, *options: str) -> tuple[Service, Path]:
    """Return a service that gets these variables from a `.env` file instead of its environment, and the file."""
    release = next_release(folder / "release")
    service, file = Service(database_url, *options, release=release), release / ".env"
    for name in re.findall(r"^(\w+)=", text, re.MULTILINE):
        del service.env[name]
    file.write_text(text)
    return service, file


@pytest.mark.parametrize("options", [["--check-config"], ["--env", "X=1"]])
def test_the_application_gets_the_variables_of_the_env_file(database_url: str, tmp_path: Path, options: list[str]) -> None:
    service, file = reads_env_file(database_url, tmp_path, "BETTER_AUTH_URL=http://localhost:3000\n", *options)
    if options == ["--check-config"]:
        subprocess.run(service.command, check=True, cwd=file.parent, env=service.env, capture_output=True, timeout=60)
    else:
        with service:
            assert service.client("alice").call("GET").status == 200


def test_the_log_shows_no_secret_of_the_env_file(database_url: str, tmp_path: Path) -> None:
    service, _ = reads_env_file(database_url, tmp_path, f"BETTER_AUTH_SECRET={SECRET}\nLOG_LEVEL=debug\n")
    with service:
        reload(service)
        assert service.client("alice").call("GET").status == 200
        assert "Current configuration" in service.text()
        assert SECRET not in service.text()


def test_a_secret_of_the_env_file_keeps_its_line_break(database_url: str, tmp_path: Path) -> None:
    service, _ = reads_env_file(database_url, tmp_path, f'BETTER_AUTH_SECRET="{SECRET}\\n"\n')
    with service:
        token = make_token("alice", f"{SECRET}\n", 1)
        headers = {"Authorization": f"Bearer {token}"}
        assert service.client("alice").send("GET", "/api/alice/tasks", headers, None).status == 200


def test_an_env_file_may_begin_with_a_byte_order_mark(database_url: str, tmp_path: Path) -> None:
    service, _ = reads_env_file(database_url, tmp_path, "\ufeffBETTER_AUTH_URL=http://localhost:3000\n")
    del service.env["BETTER_AUTH_URL"]
    with service:
        assert service.client("alice").call("GET").status == 200


@pytest.fixture
def reloadable(database_url: str, tmp_path: Path) -> Iterator[tuple[Service, Path]]:
    """Start a service that reads its settings from a `.env` file. Yield both."""
    service, file = reads_env_file(database_url, tmp_path, "BETTER_AUTH_URL=http://localhost:3000\nWEB_CONCURRENCY=2\n")
    del service.env["DEBUG"]
    with service:
        yield service, file


def reload(service: Service) -> None:
    """Send SIGHUP and wait until all workers are replaced."""
    before = set(both_workers(service))
    service.process.send_signal(signal.SIGHUP)
    wait_until(lambda: before.isdisjoint(service.workers()) and service.workers(), "the old workers are gone")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (f"BETTER_AUTH_URL=http://localhost:3000\nDEBUG={PASSWORD}\n".encode(), "DEBUG must be"),
        (f"BETTER_AUTH_URL={PASSWORD}\n".encode(), "BETTER_AUTH_URL must be"),
        (b"", "BETTER_AUTH_URL is not set"),
        (b"BETTER_AUTH_URL=\xff\n", ".env"),
    ],
    ids=["a new bad value", "a changed bad value", "a missing variable", "not UTF-8"],
)
def test_a_reload_with_a_broken_env_file_keeps_the_settings(
    reloadable: tuple[Service, Path], content: bytes, problem: str
) -> None:
    service, env_file = reloadable
    env_file.write_bytes(content)
    reload(service)
    assert len(both_workers(service)) == 2
    assert service.client("alice").call("GET").status == 200
    (record,) = service.logs("settings not reloaded")
    assert problem in record["problem"]
    assert PASSWORD not in service.text()


def test_a_reload_uses_a_changed_env_file(reloadable: tuple[Service, Path]) -> None:
    service, env_file = reloadable
    env_file.write_text("BETTER_AUTH_URL=http://localhost:3000\nWEB_CONCURRENCY=3\n")
    reload(service)
    wait_until(lambda: len(service.workers()) == 3, "there are three workers")
    assert service.logs("settings not reloaded") == []


@pytest.mark.parametrize("content", [b"X=\xff\n", b"X=a\0b\n"])
def test_an_unreadable_env_file_is_reported_in_one_line_at_the_start(database_url: str, tmp_path: Path, content: bytes) -> None:
    release = next_release(tmp_path)
    (release / ".env").write_bytes(content)
    service = Service(database_url, release=release)
    done = subprocess.run(service.command, check=False, cwd=release, env=service.env, capture_output=True, text=True, timeout=60)
    assert ".env" in only_line(done)


def folders(place: Path) -> list[Path]:
    return list(place.glob("todo_metrics_*"))


@pytest.mark.long
def test_a_second_master_has_its_own_metrics_folder_and_the_current_env_file(database_url: str, tmp_path: Path) -> None:
    release, temporary = next_release(tmp_path / "release"), tmp_path / "tmp"
    temporary.mkdir()
    service = Service(database_url, release=release, METRICS="true", TMPDIR=str(temporary))
    service.command[:3] = [str(Path(sys.executable).with_name("gunicorn"))]  # SIGUSR2 does not work with `python -m gunicorn`
    del service.env["WEB_CONCURRENCY"]
    (release / ".env").write_text("WEB_CONCURRENCY=2\n")
    with service:
        old = service.process
        (first,) = folders(temporary)
        reload(service)
        (release / ".env").write_text("WEB_CONCURRENCY=3\n")
        old.send_signal(signal.SIGUSR2)
        wait_until(lambda: len(folders(temporary)) == 2, "the new master has a folder")
        (second,) = set(folders(temporary)) - {first}
        new = next(pid for pid in service.workers() if f"GUNICORN_PID={old.pid}" in Path(f"/proc/{pid}/environ").read_text())
        try:
            wait_until(lambda: len(children(new)) == 3, "the new master has three workers")
            old.terminate()
            assert old.wait(60) == 0
            assert folders(temporary) == [second]
            assert service.client("alice").call("GET").status == 200
            assert service.send("GET", "/metrics", {}, None).status == 200
        finally:
            os.kill(new, signal.SIGTERM)
            wait_until(lambda: not Path(f"/proc/{new}").exists() or not folders(temporary), "the new master has stopped")


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.mark.long
def test_a_worker_starts_after_the_metrics_folder_was_removed(database_url: str, tmp_path: Path) -> None:
    with Service(database_url, METRICS="true", TMPDIR=str(tmp_path)) as service:
        (folder,) = folders(tmp_path)
        shutil.rmtree(folder)
        reload(service)
        both_workers(service)
        assert service.client("alice").call("GET").status == 200
        assert service.send("GET", "/metrics", {}, None).status == 200
        shutil.rmtree(folder)
        assert service.stop() == 0
        assert {record["level"] for record in service.logs()} == {"INFO"}


def test_the_metrics_folder_is_always_a_temporary_one(database_url: str, tmp_path: Path) -> None:
    with Service(database_url, METRICS="true", TMPDIR=str(tmp_path), PROMETHEUS_MULTIPROC_DIR="/nowhere") as service:
        assert service.client("alice").call("GET").status == 200
        assert service.send("GET", "/metrics", {}, None).status == 200
        assert list(folders(tmp_path)[0].iterdir())
