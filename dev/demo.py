"""`make run`: the service on a real PostgreSQL, with everything that a newcomer needs to try it.

Without NEON_DATABASE_URL in the environment or `.env` it runs an embedded server, whose data stays for the next time. So do the
secrets, made at random, in the git-ignored folder `.demo/`.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

from dotenv import load_dotenv

from dev.postgres import Postgres, die_with_parent
from todo_api.tokens import make_token

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".demo"
DATABASE = "todo"
DAY = 24 * 60  # minutes

BANNER = """
todo_api is running on {base}          Ctrl-C stops it

A token for user alice, valid for a day:

    TOKEN={token}

Paste that line, then try:

    curl {base}/api/alice/tasks -H "Authorization: Bearer $TOKEN" -d '{{"title": "Buy milk"}}' -H "Content-Type: application/json"
    curl {base}/api/alice/tasks -H "Authorization: Bearer $TOKEN"
    curl {base}/health

psql on its data, while it runs:

    make psql
"""


def main() -> None:
    load_dotenv(ROOT / ".env")
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _interrupt)
    STATE.mkdir(exist_ok=True)
    os.environ["BETTER_AUTH_SECRET"] = os.environ.get("BETTER_AUTH_SECRET") or _secret()
    os.environ["BETTER_AUTH_URL"] = os.environ.get("BETTER_AUTH_URL") or "http://localhost:3000,http://127.0.0.1:3000"
    port = _free(os.environ.get("PORT") or "8000")
    with contextlib.suppress(KeyboardInterrupt):
        if os.environ.get("NEON_DATABASE_URL"):
            _serve(port)
        else:
            with Postgres(data()) as postgres:
                os.environ["NEON_DATABASE_URL"] = postgres.create(DATABASE)
                _serve(port)


def _free(port: str) -> str:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(port)))
        except (OSError, OverflowError, ValueError) as error:
            raise SystemExit(f"port {port} cannot be used ({error}); choose another: make run PORT=9000") from None
    return port


def _interrupt(_: int, __: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _secret() -> str:
    path = STATE / "secret"
    path.touch(mode=0o600)
    if not path.read_text():
        path.write_text(secrets.token_urlsafe(48))
    return path.read_text()


def data() -> Path:
    """Below the project; for root, whose server runs as a user that may not enter root's folders, below /var/lib."""
    if os.geteuid() != 0:
        return STATE / "postgres"
    return Path("/var/lib/todo_api") / hashlib.sha256(str(ROOT).encode()).hexdigest()[:16]


def _serve(port: str) -> None:
    command = [sys.executable, "-m", "gunicorn", "wsgi:app", "--bind", f"127.0.0.1:{port}"]
    # In a session of its own, so that Ctrl-C reaches this process alone, which then stops gunicorn and PostgreSQL in turn.
    gunicorn = subprocess.Popen(command, cwd=ROOT, start_new_session=True, preexec_fn=die_with_parent)
    try:
        while gunicorn.poll() is None and not _healthy(int(port)):
            time.sleep(0.1)
        if gunicorn.poll() is None:
            token = make_token("alice", os.environ["BETTER_AUTH_SECRET"], DAY)
            print(BANNER.format(base=f"http://127.0.0.1:{port}", token=token), flush=True)
        if gunicorn.wait():
            raise SystemExit(gunicorn.returncode)
    finally:
        gunicorn.terminate()
        gunicorn.wait()


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    return False


if __name__ == "__main__":
    main()
