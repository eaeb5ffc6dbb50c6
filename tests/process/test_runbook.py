"""docs/runbook.md: its commands work, and it has a section for each alert."""

import os
import re
import subprocess
from pathlib import Path

import psycopg
import pytest
import yaml  # type: ignore[import-untyped]

from dev import postgres
from tests.support.key_server import Key, KeyServer
from tests.support.prometheus import RULES
from tests.support.server import ROOT, Service, wait_until

TEXT = (ROOT / "docs" / "runbook.md").read_text()
SETUP, *SECTIONS = TEXT.split("\n## ")
BLOCKS = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
PATH = f"{Path(postgres.psql()).parent}:{os.environ['PATH']}"


def anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")


ANCHORS = {anchor(section.partition("\n")[0]) for section in SECTIONS}


def test_each_alert_has_a_section() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    for rule in rules:
        assert anchor(rule["alert"]) in ANCHORS
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{anchor(rule['alert'])}"


def test_each_link_leads_to_a_section() -> None:
    assert set(re.findall(r"\]\(#([^)]*)\)", TEXT)) <= ANCHORS


def test_each_message_of_the_log_is_one_that_the_service_writes() -> None:
    source = "".join(path.read_text() for path in (ROOT / "todo_api").glob("*.py"))
    for message in ("database unavailable", "database still unavailable", "database available again", "database error",
                    "unhandled error", "request not counted", "keys not fetched", "unauthorized", "forbidden",
                    "todo_api starts"):  # fmt: skip
        assert f'"{message}"' in source, message
        assert message.split()[0] in TEXT, message


def test_every_command_runs(database_url: str, tmp_path: Path) -> None:
    key = Key("EdDSA", "one")
    with KeyServer(key) as server:
        settings = {"METRICS": "true", "TMPDIR": str(tmp_path), "BETTER_AUTH_URL": server.origin}
        with Service(database_url, **settings) as service:
            alice = service.client("alice")
            alice.headers = {"Authorization": f"Bearer {key.token(server, {'sub': 'alice'})}"}
            alice.create()
            alice.call("GET", headers={"Authorization": ""})
            commands = [line for section in SECTIONS for block in BLOCKS.findall(section) for line in block.splitlines()]
            assert len(commands) > 20
            values = {
                "SERVICE": f"http://127.0.0.1:{service.port}",
                "NEON_DATABASE_URL": database_url,
                "BETTER_AUTH_URL": server.origin,
            }
            assert re.findall(r"^export (\w+)=", SETUP, re.MULTILINE) == list(values)
            env = {"PATH": PATH, **values}
            (tmp_path / "log").write_text(service.text())
            # Here `log` and `journalctl` print the log of this run and one more line, {}.
            prelude = f"log() {{ cat {tmp_path}/log; echo '{{}}'; }}; journalctl() {{ log; }}; set -u\n"
            for command in commands:
                done = subprocess.run(
                    ["/bin/bash", "-c", prelude + command], check=False, capture_output=True, text=True, cwd=ROOT, env=env
                )
                assert (done.returncode, done.stderr) == (0, ""), (command, done.stderr)
                if any(name in command for name in ("/metrics", "psql", "/ready", "journalctl")):
                    assert done.stdout.strip(), command
                assert "no keys" not in done.stdout, command


def read_only(service: Service) -> bool:
    failed = service.client("alice").call("POST", body={"title": "x"}).status == 503
    return failed and "read-only transaction" in service.text()


@pytest.mark.parametrize(
    ("who", "where", "source"),
    [
        ("DATABASE {database}", 'DATABASE :"DBNAME"', "database"),
        ("ROLE {user} IN DATABASE {database}", 'ROLE :"USER" IN DATABASE :"DBNAME"', "database user"),
    ],
)
def test_a_read_only_database_becomes_writable_without_a_restart(who: str, where: str, source: str, empty_database: str) -> None:
    show, undo = next(block for block in BLOCKS.findall(TEXT) if "RESET" in block).splitlines()
    env = {"PATH": PATH, "NEON_DATABASE_URL": empty_database}
    with Service(empty_database) as service, psycopg.connect(empty_database, autocommit=True) as conn:
        alice = service.client("alice")
        alice.create()
        target = who.format(database=f'"{conn.info.dbname}"', user=f'"{conn.info.user}"')
        conn.execute(f"ALTER {target} SET default_transaction_read_only = on".encode())
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'todo_api' AND datname = current_database()"
        )
        wait_until(lambda: read_only(service), "writes fail because the database is read-only")
        shown = subprocess.check_output(["/bin/bash", "-c", show], text=True, cwd=ROOT, env=env)
        assert re.search(rf"\bon +\| {source}\n", shown)
        assert where in TEXT
        undo = undo.replace('DATABASE :"DBNAME"', where)
        done = subprocess.run(["/bin/bash", "-c", undo], check=True, capture_output=True, text=True, cwd=ROOT, env=env)
        assert done.stderr == ""
        wait_until(lambda: alice.call("POST", body={"title": "x"}).status == 201, "writes succeed")


@pytest.mark.parametrize(
    "line", [line for block in BLOCKS.findall(SETUP) for line in block.splitlines()], ids=lambda line: line[:12]
)
def test_the_setup_is_valid_shell(line: str) -> None:
    subprocess.run(["/bin/bash", "-n", "-c", line], check=True)
