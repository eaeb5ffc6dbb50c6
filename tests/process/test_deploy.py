"""The steps of docs/deploy.md with the files of `deploy/`, as far as that is possible without Docker and systemd."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
import yaml  # type: ignore[import-untyped]

from dev.postgres import WHEEL, unprivileged
from tests.support.client import SECRET, Client, application, in_process
from tests.support.key_server import KeyServer
from tests.support.load import lost, writing
from tests.support.server import ROOT, Service, executable
from todo_api.config import Config
from todo_api.migrations import migrate

pytestmark = pytest.mark.long


class Image:
    """Runs the steps of deploy/Dockerfile in a folder, with a new virtual environment instead of the image's Python."""

    def __init__(self, folder: Path, python: str) -> None:
        self.app = folder / "app"
        self.app.mkdir()
        subprocess.run([python, "-m", "venv", folder / "python"], check=True)
        self.env = {**os.environ, "PATH": f"{folder}/python/bin:{os.environ['PATH']}"}
        text = (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", "")
        self.steps = [line.partition(" ")[::2] for line in text.splitlines()]
        for step, words in self.steps:
            if step == "RUN":
                subprocess.run(words, shell=True, check=True, cwd=self.app, env=self.env)  # noqa: S602
            elif step == "COPY":
                *sources, target = words.split()
                for source in sources:
                    copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
                    copy(ROOT / source, self.app / target)
                subprocess.run(["chmod", "-R", "go=", self.app], check=True)  # noqa: S607, like a clone with umask 077

    def command(self, step: str) -> list[str]:
        """Return the command of a step that is written as a JSON list."""
        (words,) = (words for name, words in self.steps if name == step)
        command: list[str] = json.loads(words.removeprefix("CMD "))
        return command


def runs(python: Path) -> bool:
    """Return whether an unprivileged user can run this Python. One below /root is not accessible."""
    try:
        check = "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"
        return subprocess.run([python, "-c", check], check=False, capture_output=True, cwd="/", **unprivileged()).returncode == 0
    except PermissionError:
        return False


@pytest.fixture
def image() -> Iterator[Image]:
    python = next(filter(runs, (Path(sys.base_prefix, "bin", "python3"), Path("/usr/bin/python3"))), None)
    if not python:
        pytest.skip("no Python that an unprivileged user can run")
    with tempfile.TemporaryDirectory(prefix="todo_image_") as folder:
        Path(folder).chmod(0o755)
        yield Image(Path(folder), str(python))


def test_the_image_serves_as_nobody_and_its_health_check_works(image: Image, database_url: str) -> None:
    service = Service(database_url)
    service.command = image.command("CMD")
    required = {name: service.env[name] for name in ("BETTER_AUTH_SECRET", "NEON_DATABASE_URL", "BETTER_AUTH_URL")}
    here = {"GUNICORN_CMD_ARGS": f"--bind 127.0.0.1:{service.port}"}  # with PORT alone, it would listen on all addresses
    service.env = {"PATH": image.env["PATH"], "WEB_CONCURRENCY": "2", "PORT": str(service.port), **here, **required}
    service.options = {"cwd": image.app, **unprivileged()}

    def healthy(port: int) -> bool:
        env = {**service.env, "PORT": str(port)}
        return subprocess.run(image.command("HEALTHCHECK"), check=False, capture_output=True, env=env).returncode == 0

    with service, KeyServer() as other:
        other.answer = other.say(503, b"")
        assert service.client("alice").create()
        assert healthy(service.port)
        assert not healthy(other.http.server_port)
        assert service.stop() == 0
        assert not healthy(service.port)


COMPOSE_ENV = {"POSTGRES_PASSWORD": "hunter2", "BETTER_AUTH_SECRET": SECRET, "BETTER_AUTH_URL": "https://todo.example.org/"}


def compose(folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `docker compose config` on compose.yaml with this `.env`. It needs no Docker engine."""
    shutil.copy(ROOT / "compose.yaml", folder)
    shutil.copytree(ROOT / "deploy", folder / "deploy", dirs_exist_ok=True)
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in env.items()))
    plugin = subprocess.run(["docker", "compose", "version"], check=False, capture_output=True).returncode == 0  # noqa: S607
    command = ["docker", "compose"] if plugin else [executable("docker-compose")]
    clean = {name: value for name, value in os.environ.items() if name not in COMPOSE_ENV}
    return subprocess.run([*command, "config"], check=False, capture_output=True, text=True, cwd=folder, env=clean)


def test_compose_accepts_compose_yaml(tmp_path: Path) -> None:
    done = compose(tmp_path, COMPOSE_ENV)
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert services.keys() == {"db", "app", "nginx"}
    app = services["app"]["environment"]
    assert app["NEON_DATABASE_URL"] == "postgresql://todo:hunter2@db:5432/todo"
    assert Config.from_env(app).bind == "0.0.0.0:8000"
    assert [name for name, service in services.items() if "ports" in service] == ["app", "nginx"]
    assert all("127.0.0.1" in str(port) for port in services["app"]["ports"])  # other machines cannot read /metrics
    assert (tmp_path / services["app"]["build"]["dockerfile"]).exists()


@pytest.mark.parametrize("name", COMPOSE_ENV)
def test_compose_names_a_missing_secret(name: str, tmp_path: Path) -> None:
    done = compose(tmp_path, {**COMPOSE_ENV, name: ""})
    assert done.returncode != 0
    assert name in done.stderr


def test_compose_adapts_the_configuration_of_nginx(tmp_path: Path) -> None:
    """The test runs the part of the command before nginx starts."""
    shell, option, script = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["nginx"]["command"]
    script = script.replace("$$", "$").replace("/nginx.conf >", f"'{ROOT}/deploy/nginx.conf' >")
    script = script.replace("/etc/nginx/nginx.conf", f"'{tmp_path}/nginx.conf'").partition(" && exec ")[0]
    subprocess.run([shell, option, script], check=True, env={**os.environ, **COMPOSE_ENV})
    text = (tmp_path / "nginx.conf").read_text()
    assert "server app:8000;" in text
    assert '"https://todo.example.org" $http_origin;' in text
    assert "app.example.com" not in text


def test_the_procfile_starts_the_service(database_url: str) -> None:
    name, _, command = (ROOT / "Procfile").read_text().strip().partition(": ")
    service = Service(database_url)
    assert name == "web"
    service.command = [sys.executable, "-m", *command.split(), "--bind", f"127.0.0.1:{service.port}"]
    with service:
        assert service.client("alice").create()


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed")
    program = tmp_path / "gunicorn"  # a path without a space, as in the unit
    program.symlink_to(sys.executable)
    units = [tmp_path / f"todo_api.{kind}" for kind in ("service", "socket")]
    for unit in units:
        text = (ROOT / "deploy" / unit.name).read_text()
        unit.write_text(text.replace("/opt/todo_api/.venv/bin/gunicorn", str(program)))
    done = subprocess.run(["systemd-analyze", "verify", *units], check=False, capture_output=True, text=True)  # noqa: S607
    assert (done.returncode, [line for line in done.stderr.splitlines() if "todo_api" in line]) == (0, [])


def activated(database_url: str, listener: socket.socket, notify: Path) -> Service:
    """Return a service that starts as under systemd: it inherits the open socket and reports when it is ready."""
    service = Service(database_url, LISTEN_FDS="1", NOTIFY_SOCKET=str(notify))
    service.command = ["sh", "-c", 'LISTEN_PID=$$ exec "$@" 3<&0', "sh", *service.command]
    service.options["stdin"] = listener
    service.port = listener.getsockname()[1]
    return service


def test_systemd_understands_the_backup(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed")
    (program := tmp_path / "backup").symlink_to("/bin/true")
    units = [tmp_path / f"todo_api_backup.{kind}" for kind in ("service", "timer")]
    for unit in units:
        text = (ROOT / "deploy" / unit.name).read_text()
        unit.write_text(text.replace("/opt/todo_api/deploy/backup.sh", str(program)))
    done = subprocess.run(["systemd-analyze", "verify", *units], check=False, capture_output=True, text=True)  # noqa: S607
    assert (done.returncode, [line for line in done.stderr.splitlines() if "todo_api" in line]) == (0, [])


def test_a_restart_behind_systemds_socket_refuses_no_request(database_url: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        with activated(database_url, listener, tmp_path / "notify") as old, ExitStack() as running:
            assert systemd.recv(100).startswith(b"READY=1\n")
            alice = old.client(f"alice-{uuid.uuid4()}")
            with writing(alice) as writes:
                assert old.stop() == 0
                running.enter_context(activated(database_url, listener, tmp_path / "notify"))
                writes.wait_for_more()
    assert (writes.refusals, writes.broken) == ([], [])
    assert lost(database_url, alice, writes) == set()


def commands(heading: str) -> str:
    """Return the commands in this section of docs/deploy.md."""
    section = (ROOT / "docs" / "deploy.md").read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return "".join(re.findall("^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE))


def with_tools(sql: psycopg.Connection, **env: str) -> dict[str, str]:
    """Return an environment with pg_dump of the server's version, as the server may not understand newer tools' dumps."""
    tools = f"{WHEEL}/bin:" if WHEEL.name.endswith(str(sql.info.server_version // 10_000)) else ""
    return {**os.environ, "PATH": f"{tools}{os.environ['PATH']}", **env}


def test_the_nightly_backup_passes_the_restore_drill(
    database_url: str, empty_database: str, sql: psycopg.Connection, alice: Client, tmp_path: Path
) -> None:
    alice.create("Buy milk", description="日本語")
    old, recent = tmp_path / "todo-2020-01-01T000000Z.dump", tmp_path / "todo-2020-01-02T000000Z.dump.part"
    old.touch()
    recent.touch()
    os.utime(old, (0, 0))
    urls = {"NEON_DATABASE_URL": database_url, "NEW_DATABASE_URL": empty_database, "STATE_DIRECTORY": str(tmp_path)}
    env = with_tools(sql, **urls)
    dump = Path(subprocess.check_output([ROOT / "deploy" / "backup.sh"], env=env, text=True).strip())
    assert dump.stat().st_mode & 0o077 == 0
    assert sorted(tmp_path.iterdir()) == sorted([dump, recent])
    drill = ["bash", "-euc", commands("Restore drill")]
    printed = subprocess.run(drill, check=True, capture_output=True, text=True, env=env, cwd=tmp_path).stdout
    restored, live = (block.splitlines()[2] for block in printed.strip().split("(1 row)\n\n"))
    assert restored.split("|") == live.split("|")


def test_a_restore_drill_without_a_dump_says_so(empty_database: str, tmp_path: Path) -> None:
    env = {**os.environ, "NEW_DATABASE_URL": empty_database, "STATE_DIRECTORY": str(tmp_path)}
    drill = ["bash", "-c", commands("Restore drill")]
    done = subprocess.run(drill, check=False, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode != 0
    assert "there is no dump" in done.stderr


def test_a_failed_backup_leaves_no_dump_and_fails(tmp_path: Path) -> None:
    env = {**os.environ, "NEON_DATABASE_URL": "postgresql://127.0.0.1:1/none", "STATE_DIRECTORY": str(tmp_path)}
    done = subprocess.run([ROOT / "deploy" / "backup.sh"], check=False, capture_output=True, env=env)
    assert done.returncode != 0
    assert list(tmp_path.glob("*.dump")) == []


TIMEOUTS = re.findall(r"^\| [^|]+ \| (\d+) \| `([^`]+)`: `(\w+)`", (ROOT / "docs" / "deploy.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize(("seconds", "file", "name"), TIMEOUTS, ids=lambda value: value)
def test_each_timeout_in_the_table_equals_the_configured_one(seconds: str, file: str, name: str) -> None:
    assert len(TIMEOUTS) > 20
    text = (ROOT / file).read_text()
    assert re.search(rf"\b{name}\b[^\n;]*?\b{seconds}s?\b", text), f"{name} is not {seconds} in {file}"


def test_a_backup_restores_every_task(
    database_url: str, empty_database: str, sql: psycopg.Connection, alice: Client, tmp_path: Path
) -> None:
    tasks = [alice.create("Buy milk", description="日本語"), alice.create("Buy bread", completed=True)]
    env = with_tools(sql, NEON_DATABASE_URL=database_url, NEW_DATABASE_URL=empty_database)
    subprocess.run(["bash", "-euc", commands("Backup and restore")], check=True, cwd=tmp_path, env=env)  # noqa: S607
    assert migrate(empty_database) == []
    with application(empty_database) as app:
        restored = Client(in_process(app), alice.user_id)
        assert restored.list() == tasks
        assert restored.create()["id"] > tasks[-1]["id"]
