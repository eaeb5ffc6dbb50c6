"""schemathesis sends requests that openapi.json allows or forbids, and checks every response against it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.client import token
from tests.support.server import Service
from todo_api.validation import DOCUMENT

pytestmark = pytest.mark.long

HERE = Path(__file__).resolve().parent


@pytest.fixture
def service(empty_database: str) -> Iterator[Service]:
    """Start a service on its own database, whose ids start at 1, so that the same seed gives the same requests."""
    with Service(empty_database) as service:
        yield service


def bearer(user_id: str) -> str:
    """Return a header with lower-case `bearer`. After `Bearer`, schemathesis would use the token's `sub` as every user_id."""
    return f"bearer {token({'sub': user_id, 'exp': None})}"


def run(service: Service, folder: Path, *options: str, settings: Path | None = None, refusal: int = 0) -> None:
    """Run schemathesis in the folder. Fail with its report if it finds a failure."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--no-color"),
        *(("--config-file", str(settings)) if settings else ()),
        *("run", str(DOCUMENT), "--url", f"http://127.0.0.1:{service.port}"),
        *("--checks", "all", "--mode", "all", "--continue-on-failure"),
        *("--max-examples", "50", "--seed", "1", "--generation-database", "none"),
        *options,
    ]
    env = {**os.environ, "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py"), "REFUSAL": str(refusal)}
    done = subprocess.run(command, check=False, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert service.logs("unhandled error") == []


def tasks(database_url: str) -> int:
    with psycopg.connect(database_url) as conn:
        (count,) = conn.execute("SELECT count(*) FROM tasks").fetchone() or (0,)
        return int(count)


def test_responses_to_the_owner_match_the_document(service: Service, empty_database: str, tmp_path: Path) -> None:
    users = [{"name": name, "fixedHeaders": [{"name": "Authorization", "value": bearer(name)}]} for name in ("alice", "bob")]
    (tmp_path / "users.json").write_text(json.dumps({"auth": users}))
    run(service, tmp_path, settings=HERE / "schemathesis.toml")
    assert tasks(empty_database) > 0


def test_a_stranger_is_always_forbidden(service: Service, empty_database: str, tmp_path: Path) -> None:
    run(service, tmp_path, "--header", f"Authorization: {bearer('stranger')}", refusal=403)
    assert tasks(empty_database) == 0


def test_nobody_gets_in_without_a_token(service: Service, empty_database: str, tmp_path: Path) -> None:
    run(service, tmp_path, refusal=401)
    assert tasks(empty_database) == 0
