"""The service as it runs in production: gunicorn in a process of its own."""

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

__all__ = ["ROOT", "Server", "free_port", "wait_until"]  # imported here for the tests
PASSWORD = "hunter2"  # must never be printed


def executable(name: str) -> str:
    """The path of a server program. Debian keeps these out of users' PATH. Skips without it, unless REQUIRE_SERVERS is set."""
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
        """The log records printed so far, or those with this message. Fails on a line that is not a record."""
        records = [json.loads(line) for line in self.text().splitlines()]
        return [record for record in records if message in (None, record["message"])]

    def client(self, user_id: str) -> Client:
        return Client(self.send, user_id)


def run_to_end(database_url: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Start a service that must fail at start, and wait until it ends."""
    service = Service(database_url, **env)
    return subprocess.run(service.command, check=False, cwd=ROOT, env=service.env, capture_output=True, text=True, timeout=60)


def next_release(folder: Path, *migrations: str) -> Path:
    """A copy of the service in the folder, with additional migrations."""
    for name in ("todo_api", "sql"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("wsgi.py", "gunicorn.conf.py"):
        shutil.copy(ROOT / name, folder)
    for number, migration in enumerate(migrations, 9001):
        (folder / f"sql/migrations/{number}_next.sql").write_text(migration)
    return folder


def only_line(done: subprocess.CompletedProcess[str]) -> str:
    """What a start that failed has printed: one line, without the password."""
    output = done.stdout + done.stderr
    assert done.returncode > 0, output
    assert output.count("\n") == 1, output
    assert output.endswith("\n")
    assert "Traceback" not in output
    assert PASSWORD not in output
    return output
