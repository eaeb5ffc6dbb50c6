"""The files of `sql/admin/` in psql."""

import json
import subprocess
from pathlib import Path

import pytest

from dev import postgres
from tests.support.client import Client
from tests.support.psql import check_head, psql
from todo_api.statements import SQL

FILES = sorted(SQL.glob("admin/*.sql"))
EXPORT, DELETE = SQL / "admin" / "export_user.sql", SQL / "admin" / "delete_user.sql"
WITH_VARIABLES = [*FILES, SQL / "inspect" / "user_tasks.sql", SQL / "inspect" / "task.sql"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_header_comment_says_how_to_try_the_file(file: Path) -> None:
    check_head(file)


def test_an_export_is_what_the_api_returns(database_url: str, alice: Client, bob: Client) -> None:
    alice.create("Buy milk", description='日本語 | \n "quoted" \'', completed=True)
    alice.create("Buy bread")
    bob.create()
    exported = json.loads(psql(database_url, EXPORT, user_id=alice.user_id))
    assert [list(task) for task in exported] == [list(task) for task in alice.list()]
    assert [(task["id"], task["title"], task["description"]) for task in exported] == [
        (task["id"], task["title"], task["description"]) for task in alice.list()
    ]
    assert json.loads(psql(database_url, EXPORT, user_id="nobody's")) == []


def test_delete_removes_the_tasks_of_one_user(database_url: str, alice: Client, bob: Client) -> None:
    alice.create()
    alice.create()
    kept = bob.create()
    assert "2" in psql(database_url, DELETE, "-At", user_id=alice.user_id).split()
    assert (alice.list(), bob.list()) == ([], [kept])


@pytest.mark.parametrize("file", WITH_VARIABLES, ids=lambda file: file.stem)
def test_a_missing_variable_is_named(file: Path, database_url: str, alice: Client) -> None:
    task = alice.create()
    command = [postgres.psql(), database_url, "-X", "-q", "-f", str(file)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    name = "task_id" if file.stem == "task" else "user_id"
    assert done.stdout == ""
    assert done.stderr.startswith(f"{name} is missing: add -v {name}=")
    assert alice.list() == [task]
