"""`make run` in a fresh clone whose path contains a space. The tests run the printed commands in a shell."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import psycopg
import pytest

from dev.postgres import Postgres
from tests.support.client import Client, over_http
from tests.support.server import ROOT, Service, free_port, wait_until

# The demo must not inherit the developer's settings, or those of the `make` that runs the tests.
SETTINGS = re.findall(r"^(?:# )?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)

pytestmark = pytest.mark.long
MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")


class Demo:
    """Runs `make run` in the folder. At the start of a `with` block it has printed its banner. The block's end kills it."""

    def __init__(self, folder: Path, port: int | None = None, **env: str) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.output = folder.parent / f"output-{self.port}"
        # The folder uses the virtual environment of the tests, so that nothing needs to be installed.
        self.make = [str(shutil.which("make")), f"PORT={self.port}", "VENV=.venv", "--old-file=.venv/demo-installed"]
        self.env = {name: value for name, value in os.environ.items() if name not in (*SETTINGS, *MAKE)} | env

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
        """Return the indented lines of the output that contain this text."""
        return [line for line in self.output.read_text().splitlines() if line.startswith("    ") and part in line]

    def paste(self, *lines: str) -> str:
        """Run the lines in a shell and return what it prints."""
        done = subprocess.run(["bash", "-c", "\n".join(lines)], check=True, capture_output=True, text=True)  # noqa: S607
        return done.stdout

    def run(self, target: str, arguments: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        """Run `make` with this target and wait until it ends."""
        command = [*self.make, target, f"ARGS={arguments}"]
        return subprocess.run(
            command, check=False, cwd=self.folder, env={**self.env, **env}, capture_output=True, text=True, timeout=60
        )

    def psql(self, arguments: str, **env: str) -> str:
        """Run `make psql` and return what it prints."""
        done = self.run("psql", arguments, **env)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def server(self) -> int:
        """Return the process id of the database server."""
        return int((Path(self.psql("-Atc 'SHOW data_directory'").strip()) / "postmaster.pid").read_text().split()[0])

    def alice(self) -> Client:
        """Return a client with the printed token."""
        alice = Client(over_http(self.port), "alice")
        alice.headers["Authorization"] = f"Bearer {self.printed('TOKEN=')[0].strip().removeprefix('TOKEN=')}"
        return alice

    def ends(self) -> bool:
        """Wait until all its processes end. Return whether it printed no traceback and removed its socket folder."""
        self.process.wait(60)
        wait_until(lambda: not processes(self.folder, data_of_root(self.folder), self.socket), "all processes end")
        return "Traceback" not in self.output.read_text() and not self.socket.exists()


def processes(*places: Path) -> list[str]:
    """Return the command lines and working folders of the processes that use one of these paths."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # the process has ended, or belongs to another user
            found.append(f"{(process / 'cmdline').read_bytes().decode(errors='replace')} {(process / 'cwd').readlink()}")
    return [each for each in found if any(str(place) in each for place in places)]


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """Assert that a failed command printed one line, apart from make's own lines. Return it."""
    assert done.returncode > 0, done
    assert done.stdout == "", done
    line, *made_by_make = done.stderr.splitlines()
    assert all("make" in line for line in made_by_make)
    return line


def data_of_root(folder: Path) -> Path:
    """Return the folder where the demo of a clone keeps its data if root runs it."""
    return Path("/var/lib/todo_api") / hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """Copy the project and link the virtual environment of the tests. Yield the folder."""
    folder = tmp_path / "a clone"
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, check=True, cwd=ROOT, capture_output=True, text=True).stdout.split("\0")
    for source in filter(Path.is_file, (ROOT / name for name in names)):
        target = folder / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    (folder / ".venv").symlink_to(sys.prefix)
    # A background job of a shell ignores SIGINT, and its child processes would inherit that.
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
    with Demo(clone, PATH="/nowhere") as demo:  # so that it uses the psql of the wheel
        assert json.loads(demo.paste(*demo.printed("TOKEN="), demo.printed("curl")[1])) == [create]
        assert demo.alice().list() == [create]
        data = Path(demo.psql("-Atc 'SHOW data_directory'").strip())
        assert data.parent in (clone / ".demo" / "postgres", data_of_root(clone))
        assert f"{data.parent} (to reset it" in demo.printed("The data is in")[0]
        assert demo.printed("Address of the API")[0].endswith(f" http://127.0.0.1:{demo.port}")
        os.killpg(demo.process.pid, signal.SIGINT)  # like Ctrl-C
        assert demo.ends()


def test_a_port_in_use_is_named_in_one_line(clone: Path, service: Service) -> None:
    done = Demo(clone, service.port).run("run")  # the other service on this port also responds to GET /health
    assert f"port {service.port} cannot be used (Address already in use)" in one_line(done)


@pytest.mark.parametrize("port", ["abc", "0", "65536", "-1", "8000x", "٨"])
def test_a_malformed_port_is_explained_in_one_line(clone: Path, port: str) -> None:
    demo = Demo(clone)
    demo.make[1] = f"PORT={port}"
    line = one_line(demo.run("run"))
    assert line == "PORT must be a whole number from 1 to 65535, for example: make run PORT=9000"


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"PORT=8000\nthis is wrong\n", "line 2"), (b"\xff\xfePORT", "UTF-8"), (None, "cannot be read")],
    ids=["syntax", "encoding", "permission"],
)
@pytest.mark.parametrize("target", ["run", "psql"])
def test_a_broken_env_file_is_named_in_one_line(clone: Path, content: bytes | None, problem: str, target: str) -> None:
    file = clone / ".env"
    if content is None:
        file.symlink_to("/proc/1/mem" if os.geteuid() == 0 else "/proc/1/environ")  # unreadable files
        if not file.is_file():
            pytest.skip("needs /proc")
    else:
        file.write_bytes(content)
    line = one_line(Demo(clone).run(target))
    assert line.startswith(str(file))
    assert problem in line


@pytest.mark.long
def test_a_setting_of_the_env_file_replaces_that_of_the_demo(clone: Path) -> None:
    (clone / ".env").write_bytes(b"\xef\xbb\xbfDEBUG=false\nLOG_LEVEL=warning\nBETTER_AUTH_URL=https://app.example.com\n")
    with Demo(clone) as demo:
        assert demo.alice().send("GET", "/docs/", {}, None).status == 404
        assert "/docs" not in demo.output.read_text()
        assert demo.printed("https://app.example.com")
        assert "Starting gunicorn" not in demo.output.read_text()
        demo.process.terminate()
        assert demo.ends()


def test_the_banner_comes_after_the_start_records_and_names_the_page(clone: Path) -> None:
    with Demo(clone) as demo:
        records, _, after = demo.output.read_text().partition("todo_api is running")
        assert "Booting worker" in records
        assert "Booting worker" not in after
        assert '"level": "DEBUG"' not in demo.output.read_text()  # LOG_LEVEL is info although DEBUG is true
        assert demo.printed("browser")[0].endswith(f"http://127.0.0.1:{demo.port}/docs")
        alice = demo.alice()
        assert alice.send("GET", "/", {}, None).headers["Location"] == "/docs/"
        assert b"swagger-ui" in alice.send("GET", "/docs/", {}, None).body
        demo.process.terminate()
        assert demo.ends()


@pytest.mark.long
def test_make_token_prints_a_token_for_another_user(clone: Path) -> None:
    with Demo(clone) as demo:
        done = demo.run("token", "bob")
        assert (done.returncode, done.stderr) == (0, "")
        bob = Client(over_http(demo.port), "bob")
        bob.headers["Authorization"] = f"Bearer {done.stdout.strip()}"
        assert bob.list() == []
        assert bob.call("GET", of=demo.alice()).status == 403
        demo.process.terminate()
        assert demo.ends()


@pytest.mark.long
def test_pages_on_every_port_of_this_machine_may_call_it(clone: Path) -> None:
    with Demo(clone) as demo:
        alice = demo.alice()
        for origin in ("http://localhost:5173", "http://127.0.0.1:4200", "http://localhost"):
            headers = alice.call("GET", headers={"Origin": origin}).headers
            assert headers["Access-Control-Allow-Origin"] == origin
        assert "Access-Control-Allow-Origin" not in alice.call("GET", headers={"Origin": "http://evil.example"}).headers
        wait_until(lambda: "http://evil.example" in demo.output.read_text(), "the rejected origin is logged")
        demo.process.terminate()
        assert demo.ends()


@pytest.mark.long
def test_on_a_terminal_it_prints_readable_lines(clone: Path) -> None:
    screen, terminal = pty.openpty()
    demo = Demo(clone, TERM="xterm")
    command = [*demo.make, "run"]
    process = subprocess.Popen(command, cwd=clone, env=demo.env, stdout=terminal, stderr=terminal, start_new_session=True)
    os.close(terminal)
    try:
        text = b""
        while b"make psql" not in text:
            text += os.read(screen, 65536)  # OSError when all programs on the terminal have ended
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(screen)
    assert re.search(rb"\d\d:\d\d:\d\d \x1b\[32mINFO    \x1b\[0m Starting gunicorn", text)
    wait_until(lambda: not processes(clone, data_of_root(clone)), "all processes end")


def test_a_second_demo_says_where_the_first_runs_and_how_to_stop_it(clone: Path) -> None:
    with Demo(clone) as demo:
        for other in (Demo(clone, demo.port), Demo(clone)):
            line = one_line(other.run("run"))
            assert f"already running at http://127.0.0.1:{demo.port}." in line
        os.kill(int(line.rpartition("kill ")[2]), signal.SIGTERM)
        assert demo.ends()


@pytest.mark.long
def test_it_starts_again_after_a_kill(clone: Path) -> None:
    with Demo(clone) as demo:
        task = demo.alice().create()
        server = demo.server()
        os.kill(server, signal.SIGSTOP)  # the server cannot react to the end of the demo
        os.killpg(demo.process.pid, signal.SIGKILL)
        os.kill(server, signal.SIGCONT)
    with Demo(clone, demo.port) as demo:
        assert demo.server() != server
        assert demo.alice().list() == [task]
        demo.process.terminate()
        assert demo.ends()


@pytest.mark.long
def test_a_database_server_that_was_left_behind_is_stopped(clone: Path) -> None:
    home = clone / ".demo" / "postgres" if os.geteuid() else data_of_root(clone)
    with Postgres(home) as left:
        url = left.create("todo")
        with Demo(clone) as demo:
            assert "earlier run left behind" in demo.output.read_text()
            wait_until(lambda: left.process is not None and left.process.poll() is not None, "the first server has ended")
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(url)
            demo.process.terminate()
            assert demo.ends()


def test_a_missing_venv_module_is_explained_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "ensurepip.py").write_text("raise ModuleNotFoundError")
    done = install(tmp_path, PYTHONPATH=str(tmp_path))
    assert "sudo apt install python3-venv" in one_line(done)


@pytest.mark.long
def test_a_missing_network_is_explained_in_one_line(tmp_path: Path) -> None:
    options = {"CONFIG_FILE": os.devnull, "INDEX_URL": f"http://127.0.0.1:{free_port()}", "RETRIES": "1"}
    others = dict.fromkeys(("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CONSTRAINT", "PIP_NO_INDEX"), "")
    done = install(tmp_path, **others, **{f"PIP_{name}": value for name, value in options.items()})
    assert done.returncode > 0
    assert done.stderr.count("\n") == 1
    assert "Check the network" in done.stderr


def install(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run dev/install.py for a new virtual environment in the folder."""
    command = [sys.executable, str(ROOT / "dev" / "install.py"), str(folder / "venv"), str(ROOT / "requirements-demo.txt")]
    return subprocess.run(command, check=False, env={**os.environ, **env}, capture_output=True, text=True, timeout=120)


def test_psql_without_a_database_says_in_one_line_what_to_do(clone: Path) -> None:
    assert "make run" in one_line(Demo(clone).run("psql"))
    secret = "postgres://me:s3cret@a b/todo"
    line = one_line(Demo(clone, NEON_DATABASE_URL=secret).run("psql"))
    assert line.startswith("NEON_DATABASE_URL ")
    assert "s3cret" not in line


@pytest.mark.long
def test_psql_uses_the_database_of_the_environment_and_hides_its_password(clone: Path) -> None:
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


@pytest.mark.long
def test_psql_ignores_the_files_of_a_killed_server(clone: Path) -> None:
    with Demo(clone) as demo:
        data = Path(demo.psql("-Atc 'SHOW data_directory'").strip())
        os.kill(int((data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        wait_until(lambda: not processes(data), "the server is gone")
        assert (data / "postmaster.pid").exists()
        assert "make run" in one_line(demo.run("psql"))
        demo.process.terminate()
        assert demo.ends()
