"""Starts server processes on free ports of 127.0.0.1, for the tests and the benchmarks."""

from __future__ import annotations

import atexit
import contextlib
import http.client
import os
import re
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

from dev.postgres import give_away

ROOT = Path(__file__).resolve().parents[1]
SECRET = "a-secret-for-tests-of-more-than-32-bytes"  # noqa: S105
ORIGIN = "http://localhost:3000"


def free_port() -> int:
    """Return a free port. This process binds it until it ends, so that only a server that sets SO_REUSEADDR can use it."""
    reserved = socket.socket()
    atexit.register(reserved.close)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    port: int = reserved.getsockname()[1]
    return port


def wait_until(condition: Callable[[], object], what: str, seconds: float = 30) -> None:
    """Poll until the condition is true. Raise TimeoutError with `what` in its message if that takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def environment(database_url: str) -> dict[str, str]:
    """Return the environment of a service with default settings. It sets every variable, so that a `.env` has no effect."""
    names = re.findall(r"^(?:# )?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    required = {"NEON_DATABASE_URL": database_url, "BETTER_AUTH_SECRET": SECRET, "BETTER_AUTH_URL": ORIGIN}
    return {**os.environ, **dict.fromkeys(names, ""), **required, "WEB_CONCURRENCY": "2"}


class Server:
    """A server process that runs inside a `with` block, which can be entered again.

    Attributes:
        port: the port on 127.0.0.1.
        home: a temporary folder for its output and its files. It exists inside the block.
        command, env, options: the arguments of Popen. They can be changed until the server starts.
        stop_signal: the signal that stops the server at the end of the block.
    """

    stop_signal = signal.SIGTERM

    def __init__(self) -> None:
        self.port = free_port()
        self.command: list[str] = []
        self.env = dict(os.environ)
        self.options: dict[str, Any] = {}

    def configure(self) -> None:
        """Write configuration files to `home`. This is called before the server starts."""

    def responds(self) -> bool:
        """Return whether the server accepts connections. May raise OSError if it does not."""
        socket.create_connection(("127.0.0.1", self.port)).close()
        return True

    def __enter__(self) -> Self:
        self.home = Path(tempfile.mkdtemp(prefix="todo_server_"))
        try:
            give_away(self.home)
            self.configure()
            with (self.home / "output").open("w") as output:
                self.process = subprocess.Popen(self.command, env=self.env, stdout=output, stderr=output, **self.options)
            try:
                wait_until(self.is_up, f"{type(self).__name__} is up")
            except BaseException:
                self.stop(self.stop_signal)
                raise
        except BaseException:
            shutil.rmtree(self.home)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop(self.stop_signal)
        finally:
            shutil.rmtree(self.home)

    def is_up(self) -> bool:
        """Return whether the server responds. Raise RuntimeError with its output if it has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"{type(self).__name__} has ended: {self.text()}")
        with contextlib.suppress(OSError):
            return self.responds()
        return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and wait up to 60 seconds until the server has ended. Return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(60)

    def text(self) -> str:
        """Return what the server has printed so far."""
        return (self.home / "output").read_text()


class ApiServer(Server):
    """A server of the API: this service under gunicorn, unless `command` is changed."""

    def __init__(self, database_url: str, *arguments: str, **env: str) -> None:
        super().__init__()
        self.command = [sys.executable, "-m", "gunicorn", "wsgi:app", "--bind", f"127.0.0.1:{self.port}", *arguments]
        self.env = {**environment(database_url), **env}
        self.options = {"cwd": ROOT}
        self.children = int(self.env["WEB_CONCURRENCY"])  # the number of child processes once it is up

    def responds(self) -> bool:
        """Return whether GET /health returns 200 and all workers run."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/health")
            return connection.getresponse().status == 200 and len(self.workers()) == self.children

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]
