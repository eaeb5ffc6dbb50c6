"""Runs the service as in production: gunicorn in its own process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dev.server import ROOT, ApiServer, Server, free_port, wait_until
from tests.support.client import Client, Response, over_http

__all__ = ["ROOT", "Server", "free_port", "wait_until"]  # the tests import them from here
PASSWORD = "hunter2"  # must never be printed


def executable(name: str) -> str:
    """Return the path of a server program, also if it is in /usr/sbin. If missing, skip, or fail if REQUIRE_SERVERS is set."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    reason = f"{name} is not installed"
    return found or (pytest.fail(reason) if os.environ.get("REQUIRE_SERVERS") else pytest.skip(reason))


class Service(ApiServer):
    """gunicorn on a free port of 127.0.0.1. It runs inside a `with` block. `env` is added to the default settings."""

    def __init__(self, database_url: str, *arguments: str, release: str | Path = ROOT, **env: str) -> None:
        super().__init__(database_url, *arguments, **env)
        self.options = {"cwd": release}

    def send(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Response:
        return over_http(self.port)(method, path, headers, body)

    def logs(self, message: str | None = None) -> list[dict[str, Any]]:
        """Return the log records so far, or only those with this message. Fail on a line that is not a record."""
        records = [json.loads(line) for line in self.text().splitlines()]
        return [record for record in records if message in (None, record["message"])]

    def client(self, user_id: str) -> Client:
        return Client(self.send, user_id)


def run_to_end(database_url: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Start a service that must fail at start, and wait until it ends."""
    service = Service(database_url, **env)
    return subprocess.run(service.command, check=False, cwd=ROOT, env=service.env, capture_output=True, text=True, timeout=60)


def next_release(folder: Path, *migrations: str) -> Path:
    """Copy the service to the folder and add migrations. Return the folder."""
    for name in ("todo_api", "sql"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("wsgi.py", "gunicorn.conf.py"):
        shutil.copy(ROOT / name, folder)
    for number, migration in enumerate(migrations, 9001):
        (folder / f"sql/migrations/{number}_next.sql").write_text(migration)
    return folder


def only_line(done: subprocess.CompletedProcess[str]) -> str:
    """Assert that a failed start printed one line without the password. Return that line."""
    output = done.stdout + done.stderr
    assert done.returncode > 0, output
    assert output.count("\n") == 1, output
    assert output.endswith("\n")
    assert "Traceback" not in output
    assert PASSWORD not in output
    return output
