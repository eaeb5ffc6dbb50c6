"""`make run` starts the service with an embedded PostgreSQL, and prints a token and commands to try.

If NEON_DATABASE_URL is set in the environment or in `.env`, it uses that database instead. It keeps the data and a random secret
in `.demo/` for the next run. Git ignores that folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from dev.postgres import Postgres, die_with_parent
from dev.settings import ROOT, load_settings
from todo_api.tokens import make_token

STATE = ROOT / ".demo"
DATABASE = "todo"
DAY = 24 * 60  # minutes
DEFAULTS = {
    "BETTER_AUTH_URL": "http://localhost:3000",
    "CORS_ALLOW_LOCALHOST": "true",
    "DEBUG": "true",
    "LOG_LEVEL": "info",
    "ACCESS_LOG": "true",
    "WEB_CONCURRENCY": "1",  # with one worker, the banner is printed after all start records
}

BANNER = """
todo_api is running. Ctrl-C stops it; your tasks are kept for the next run.

    Address of the API:     {base}
    Try it in the browser:  {page}
    CORS allows pages from: {origins}
    The data is in:         {place}

A token for user alice, valid for one day:

    TOKEN={token}

Paste that line into a shell, then try:

    curl {base}/api/alice/tasks -H "Authorization: Bearer $TOKEN" -d '{{"title": "Buy milk"}}' -H "Content-Type: application/json"
    curl {base}/api/alice/tasks -H "Authorization: Bearer $TOKEN"
    curl {base}/health

For a token of another user, or psql on the database, while the service runs:

    make token ARGS=bob
    make psql
"""


def main() -> None:
    load_settings()
    port = _port(os.environ.get("PORT") or "8000")
    for name, default in DEFAULTS.items():
        os.environ[name] = os.environ.get(name) or default
    for how in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(how, _interrupt)
    try:
        STATE.mkdir(exist_ok=True)
        with contextlib.suppress(KeyboardInterrupt), _only_one(port):
            os.environ["BETTER_AUTH_SECRET"] = os.environ.get("BETTER_AUTH_SECRET") or secret()
            if os.environ.get("NEON_DATABASE_URL"):
                _serve(port, "the database of NEON_DATABASE_URL")
            else:
                with Postgres(data()) as postgres:
                    os.environ["NEON_DATABASE_URL"] = postgres.create(DATABASE)
                    _serve(port, f"{data()} (to reset it, stop this and delete the folder)")
    except OSError as error:
        raise SystemExit(f"make run needs to write to {STATE}: {error}") from None


def data() -> Path:
    """Return the folder of the embedded server: in `.demo/`, or in /var/lib for root, whose server runs as another user."""
    if os.geteuid() != 0:
        return STATE / "postgres"
    return Path("/var/lib/todo_api") / hashlib.sha256(str(ROOT).encode()).hexdigest()[:16]


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise SystemExit("PORT must be a whole number from 1 to 65535, for example: make run PORT=9000")
    return int(text)


@contextlib.contextmanager
def _only_one(port: int) -> Iterator[None]:
    """Allow one demo in this folder. Raise SystemExit with its address if one is running, or if the port cannot be used."""
    with (STATE / "running").open("a+") as file:  # locked while the demo runs, even if it is killed with SIGKILL
        file.seek(0)
        earlier = file.read()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"make run is already running {earlier}") from None
        file.truncate(0)
        file.write(f"at http://127.0.0.1:{port}. To stop it, press Ctrl-C in its terminal or type: kill {os.getpid()}")
        file.flush()
        try:
            _check_port(port, seconds=5 if earlier else 0)  # the gunicorn of a killed demo may still be stopping
            yield
        finally:
            file.truncate(0)


def _check_port(port: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
                    reason = os.strerror(error.errno or 0)
                    raise SystemExit(f"port {port} cannot be used ({reason}); choose another: make run PORT=9000") from None
        time.sleep(0.1)


def _interrupt(_: int, __: FrameType | None) -> NoReturn:
    for how in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(how, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the clean-up
    raise KeyboardInterrupt


def secret() -> str:
    """Return the random secret of this folder. Create it on first use."""
    STATE.mkdir(exist_ok=True)
    path = STATE / "secret"
    path.touch(mode=0o600)
    if not path.read_text():
        path.write_text(secrets.token_urlsafe(48))
    return path.read_text()


def _serve(port: int, place: str) -> None:
    command = [sys.executable, "-m", "gunicorn", "wsgi:app", "--bind", f"127.0.0.1:{port}"]
    # Use a separate session, so that Ctrl-C only reaches this process. It then stops gunicorn before PostgreSQL.
    gunicorn = subprocess.Popen(command, cwd=ROOT, start_new_session=True, preexec_fn=die_with_parent)
    try:
        while gunicorn.poll() is None and not _healthy(port):
            time.sleep(0.1)
        if gunicorn.poll() is None:
            print(_banner(f"http://127.0.0.1:{port}", place), flush=True)
        if gunicorn.wait():
            raise SystemExit(gunicorn.returncode)
    finally:
        gunicorn.terminate()
        gunicorn.wait()


def _banner(base: str, place: str) -> str:
    page = f"{base}/docs" if os.environ["DEBUG"].lower() in ("true", "1") else "set DEBUG=true to enable it"
    origins = os.environ["BETTER_AUTH_URL"].split(",")
    if os.environ["CORS_ALLOW_LOCALHOST"].lower() in ("true", "1"):
        origins = ["http://localhost and http://127.0.0.1, any port", *(each for each in origins if "//localhost:" not in each)]
    token = make_token("alice", os.environ["BETTER_AUTH_SECRET"], DAY)
    return BANNER.format(base=base, page=page, origins=", ".join(origins), place=place, token=token)


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    return False


if __name__ == "__main__":
    main()
