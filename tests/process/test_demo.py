"""`make run` as a newcomer meets it: in a fresh clone, whose path has a space, with the printed lines pasted into a shell."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.support.client import Client, over_http
from tests.support.server import ROOT, Service, free_port, wait_until

pytestmark = pytest.mark.long

# What the developer, or the make that runs the tests, has set must not reach the demo.
SETTINGS = ("BETTER_AUTH_SECRET", "NEON_DATABASE_URL", "BETTER_AUTH_URL", "BETTER_AUTH_JWKS_URL", "DEBUG")
MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")


class Demo:
    """`make run` in the folder. As a context manager it has printed what to try inside the block, and is gone behind it."""

    def __init__(self, folder: Path, port: int | None = None, **env: str) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.output = folder.parent / f"output-{self.port}"
        # The folder's virtual environment is the one that runs the tests: there is nothing to install, whatever its age.
        self.make = [str(shutil.which("make")), f"PORT={self.port}", "VENV=.venv", "--old-file=.venv/installed"]
        self.env = {**os.environ, **dict.fromkeys((*SETTINGS, *MAKE), ""), **env}

    def __enter__(self) -> Self:
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*self.make, "run"], cwd=self.folder, env=self.env, stdout=output, stderr=output, start_new_session=True
            )
        try:
            wait_until(lambda: self.printed("make psql") or self.process.poll() is not None, "the demo is up", 60)
            assert self.process.poll() is None, self.output.read_text()
            self.socket = Path(self.psql("-Atc 'SHOW unix_socket_directories'").strip())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def printed(self, part: str) -> list[str]:
        """The lines to paste that hold this, of those printed so far."""
        return [line for line in self.output.read_text().splitlines() if line.startswith("    ") and part in line]

    def paste(self, *lines: str) -> str:
        """What a shell prints after these lines."""
        done = subprocess.run(["bash", "-c", "\n".join(lines)], check=True, capture_output=True, text=True)  # noqa: S607
        return done.stdout

    def run(self, target: str, arguments: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        """What `make` says to this target, once it has ended."""
        command = [*self.make, target, f"ARGS={arguments}"]
        return subprocess.run(
            command, check=False, cwd=self.folder, env={**self.env, **env}, capture_output=True, text=True, timeout=60
        )

    def psql(self, arguments: str, **env: str) -> str:
        """What `make psql` prints."""
        done = self.run("psql", arguments, **env)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def alice(self) -> Client:
        """The user of the printed token."""
        alice = Client(over_http(self.port), "alice")
        alice.headers["Authorization"] = f"Bearer {self.printed('TOKEN=')[0].strip().removeprefix('TOKEN=')}"
        return alice

    def ends(self) -> bool:
        """Whether it ends, and all that it has started with it, without a traceback and without the folder of its socket."""
        self.process.wait(60)
        wait_until(lambda: not processes(self.folder, data_of_root(self.folder), self.socket), "all processes end")
        return "Traceback" not in self.output.read_text() and not self.socket.exists()


def processes(*places: Path) -> list[str]:
    """The command lines and working folders that name one of these places."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile, or is another user's
            found.append(f"{(process / 'cmdline').read_bytes().decode(errors='replace')} {(process / 'cwd').readlink()}")
    return [each for each in found if any(str(place) in each for place in places)]


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The only line that a command that failed has printed, apart from make's own."""
    assert done.returncode > 0
    assert done.stdout == ""
    line, *made_by_make = done.stderr.splitlines()
    assert all("make" in line for line in made_by_make)
    return line


def data_of_root(folder: Path) -> Path:
    """Where the demo of a clone keeps its data when root runs it."""
    return Path("/var/lib/todo_api") / hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """The project's files, installed, in a folder of their own."""
    folder = tmp_path / "a clone"
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, check=True, cwd=ROOT, capture_output=True, text=True).stdout.split("\0")
    for source in filter(Path.is_file, (ROOT / name for name in names)):
        target = folder / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    (folder / ".venv").symlink_to(sys.prefix)
    # A background job of a script ignores SIGINT, and so would all that it starts.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield folder
    signal.signal(signal.SIGINT, previous)
    shutil.rmtree(data_of_root(folder), ignore_errors=True)


def test_a_fresh_clone_runs_and_finds_its_tasks_again(clone: Path) -> None:
    with Demo(clone) as demo:
        create, show, health = (json.loads(demo.paste(*demo.printed("TOKEN="), line)) for line in demo.printed("curl"))
        assert (create["title"], create["user_id"]) == ("Buy milk", "alice")
        assert show == [create]
        assert health["status"] == "healthy"
        alice = demo.alice()
        task = alice.create("Buy bread")
        assert alice.list() == [create, task]
        assert alice.call("GET", task["id"]).json == task
        assert alice.call("PUT", task["id"], {"title": "Buy rye bread"}).json["title"] == "Buy rye bread"
        assert alice.call("PATCH", f"{task['id']}/complete").json["completed"] is True
        assert alice.call("DELETE", task["id"]).status == 204
        assert "Buy milk" in demo.psql("-v user_id=alice -f sql/inspect/user_tasks.sql")
        demo.process.terminate()
        assert demo.ends()
    with Demo(clone, PATH="/nowhere") as demo:  # so that psql has to be that of the wheel
        assert json.loads(demo.paste(*demo.printed("TOKEN="), demo.printed("curl")[1])) == [create]
        assert demo.alice().list() == [create]
        data = Path(demo.psql("-Atc 'SHOW data_directory'").strip())
        assert data.parent in (clone / ".demo" / "postgres", data_of_root(clone))
        os.killpg(demo.process.pid, signal.SIGINT)  # as Ctrl-C does
        assert demo.ends()


def test_a_port_in_use_ends_it_with_one_line_that_names_it(clone: Path, service: Service) -> None:
    done = Demo(clone, service.port).run("run")  # where the other one answers GET /health too
    assert str(service.port) in one_line(done)


def test_psql_without_a_database_says_in_one_line_what_to_do(clone: Path) -> None:
    assert "make run" in one_line(Demo(clone).run("psql"))
    secret = "postgres://me:s3cret@a b/todo"
    line = one_line(Demo(clone, NEON_DATABASE_URL=secret).run("psql"))
    assert line.startswith("NEON_DATABASE_URL ")
    assert "s3cret" not in line


def test_psql_takes_the_database_of_the_environment_and_shows_nobody_its_password(clone: Path) -> None:
    (clone / "arguments.sql").write_text(
        "SELECT current_database();\n\\! tr '\\0' ' ' < /proc/$PPID/cmdline; echo; echo $PGPASSWORD\n"
    )
    with Demo(clone) as demo:
        url = f"postgresql+asyncpg://postgres:s3cret@/postgres?host={demo.socket}&ssl=prefer"
        database, arguments, password = demo.psql("-At -f arguments.sql", NEON_DATABASE_URL=url).splitlines()
        assert (database, password) == ("postgres", "s3cret")
        assert str(demo.socket) in arguments
        assert "s3cret" not in arguments
        demo.process.terminate()
        assert demo.ends()


def test_psql_is_not_misled_by_what_a_killed_server_leaves(clone: Path) -> None:
    with Demo(clone) as demo:
        data = Path(demo.psql("-Atc 'SHOW data_directory'").strip())
        os.kill(int((data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        wait_until(lambda: not processes(data), "the server is gone")
        assert (data / "postmaster.pid").exists()
        assert "make run" in one_line(demo.run("psql"))
        demo.process.terminate()
        assert demo.ends()
