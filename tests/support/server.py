"""The service as it runs in production: gunicorn in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support.client import ORIGIN, SECRET, Client, over_http

ROOT = Path(__file__).resolve().parents[2]
HELD: list[socket.socket] = []  # to the end of the run, so that a server may come back to its port


def free_port() -> int:
    """A port that is bound here and not listened to: nobody gets it by chance, but a server, which sets SO_REUSEADDR, may."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    HELD.append(held)
    port: int = held.getsockname()[1]
    return port


def executable(name: str) -> str:
    """A server, which Debian keeps out of the PATH of users; skips without it, unless REQUIRE_SERVERS is set."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    reason = f"{name} is not installed"
    return found or (pytest.fail(reason) if os.environ.get("REQUIRE_SERVERS") else pytest.skip(reason))


def wait_until(condition: Callable[[], object], what: str, seconds: float = 30) -> None:
    """Poll until the condition holds; fails, naming `what`, when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.02)


class Service:
    """gunicorn on a free port of 127.0.0.1. As a context manager it is up inside the block and stopped behind it.

    Every variable of the service is set here, empty where it is not given: a developer's `.env` has no say.
    """

    def __init__(self, database_url: str, *arguments: str, release: str | Path = ROOT, **env: str) -> None:
        self.port = free_port()
        settings = {
            "NEON_DATABASE_URL": database_url,
            "BETTER_AUTH_SECRET": SECRET,
            "BETTER_AUTH_SECRET_PREVIOUS": "",
            "BETTER_AUTH_URL": ORIGIN,
            "BETTER_AUTH_JWKS_URL": "",
            "BETTER_AUTH_ISSUER": "",
            "BETTER_AUTH_AUDIENCE": "",
            "DEBUG": "",
            "LOG_LEVEL": "",
            "ACCESS_LOG": "",
            "METRICS": "",
            "PORT": "",
            "DB_POOL_SIZE": "",
            "DB_PREPARE": "",
            "WEB_CONCURRENCY": "2",
        }
        self.env = {**os.environ, **settings, **env}
        self.command = [sys.executable, "-m", "gunicorn", "wsgi:app", "--bind", f"127.0.0.1:{self.port}", *arguments]
        self.options: dict[str, Any] = {"cwd": release}  # of Popen
        self.children = int(self.env["WEB_CONCURRENCY"])  # of the process, when it is up
        self.send = over_http(self.port)

    def __enter__(self) -> Self:
        self.output = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(self.command, env=self.env, stdout=self.output, stderr=subprocess.STDOUT, **self.options)
        try:
            wait_until(self.is_up, "gunicorn is up")
        except AssertionError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.output.close()

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.text()
        try:
            healthy = self.send("GET", "/health", {}, None).status == 200
            return healthy and len(self.workers()) == self.children
        except OSError:
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and wait for the end; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(60)

    def text(self) -> str:
        """What it has printed so far."""
        return Path(f"/proc/self/fd/{self.output.fileno()}").read_text()

    def logs(self, message: str | None = None) -> list[dict[str, Any]]:
        """The records printed so far, with this message if one is given. Fails on a line that is no record."""
        records = [json.loads(line) for line in self.text().splitlines()]
        return [record for record in records if message in (None, record["message"])]

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def client(self, user_id: str) -> Client:
        return Client(self.send, user_id)


def run_to_end(database_url: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Start the service where it must fail, and wait for its end."""
    service = Service(database_url, **env)
    return subprocess.run(service.command, check=False, cwd=ROOT, env=service.env, capture_output=True, text=True, timeout=60)
