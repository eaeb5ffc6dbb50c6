"""The commands in README, CONTRIBUTING and docs/ work as written."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from dev.postgres import psql
from tests.support.client import token
from tests.support.legacy import TABLE
from tests.support.server import ROOT, Service

# test_runbook.py runs the commands of the runbook.
DOCS = sorted(path for path in ROOT.glob("docs/*.md") if path.name != "runbook.md")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
BLOCKS = [
    (path, kind, text)
    for path in DOCUMENTS
    for kind, text in re.findall(r"^```(sh|sql)\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
]
# The first lines of the blocks that do not run here, with the reason or the test that covers them.
ELSEWHERE = {
    "make run": "test_demo.py runs it in a fresh clone",
    "make test": "it runs this test",
    "make bench": "test_benchmarks.py does a short run",
    "python3 -m venv .venv": "test_deploy.py does this for the image",
    "umask 022": "needs systemd; test_deploy.py checks the units",
    "systemctl enable --now todo_api": "the same",
    "/opt/todo_api/.venv/bin/python -m pip install -r /opt/todo_api/requirements.txt": "the same",
    "docker build -f deploy/Dockerfile -t todo_api .": "needs Docker; test_deploy.py runs the steps of the Dockerfile",
    "umask 077": "needs Docker; test_deploy.py checks compose.yaml",
    "docker compose up --build --detach": "the same",
    "cp deploy/todo_api_backup.service deploy/todo_api_backup.timer /etc/systemd/system/": "needs systemd",
    'dump=$(ls -t "${STATE_DIRECTORY:-/var/lib/todo_api_backup}"/todo-*.dump | head -1)': "test_deploy.py: two databases",
    'pg_dump --format=custom --file=todo.dump "$NEON_DATABASE_URL"': "test_deploy.py: two databases",
}
TYPED = [
    pytest.param(kind, text, id=f"{path.name}: {text.splitlines()[0]}")
    for path, kind, text in BLOCKS
    if text.splitlines()[0] not in ELSEWHERE
]


@pytest.mark.parametrize(("kind", "text"), TYPED)
def test_it_works_as_written(kind: str, text: str, service: Service, empty_database: str, tmp_path: Path) -> None:
    with psycopg.connect(empty_database) as conn:
        conn.execute(TABLE)
    (tmp_path / "psql").symlink_to(psql())
    here = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "NEON_DATABASE_URL": empty_database,
        "TOKEN": token({"sub": "alice"}),
        "PGOPTIONS": "-c client_min_messages=warning",
    }
    subprocess.run([Path(sys.prefix, "bin/flask"), "migrate"], check=True, cwd=ROOT, env={**service.env, **here})
    if kind == "sql":
        (tmp_path / "text.sql").write_text(text)
        text = f'psql "$NEON_DATABASE_URL" -v ON_ERROR_STOP=1 -f {tmp_path}/text.sql'
    text = text.replace(".venv/bin/", shlex.quote(f"{sys.prefix}/bin/")).replace("127.0.0.1:8000", f"127.0.0.1:{service.port}")
    text = text.replace("curl ", "curl --fail ")
    done = subprocess.run(
        ["/bin/bash", "-euc", text], check=False, cwd=ROOT, env={**service.env, **here}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "ERROR" not in done.stderr


def test_each_skipped_block_is_in_a_document() -> None:
    assert ELSEWHERE.keys() <= {text.splitlines()[0] for _, _, text in BLOCKS}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_files_that_a_document_names_exist(document: Path) -> None:
    text = document.read_text()
    named = re.findall(r"\]\(([\w./-]+)\)", text) + re.findall(r"`((?:deploy|dev|docs|sql|tests|todo_api)/[\w./-]+)`", text)
    places = [(document.parent / name, ROOT / name) for name in named if "NNNN" not in name]
    assert [near for near, far in places if not near.exists() and not far.exists()] == []
