"""Two releases on one database: the new one migrates and starts while the old one still serves requests."""

import json
import subprocess
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from tests.support.client import Client, Response
from tests.support.load import every_operation, locked, lost, writing
from tests.support.server import Service, next_release, wait_until

pytestmark = pytest.mark.long

INDEX = "DROP INDEX CONCURRENTLY IF EXISTS tasks_title;\nCREATE INDEX CONCURRENTLY tasks_title ON tasks (user_id, title);\n"


def give_tasks_a_mood(release: Path) -> None:
    """Add a new field `mood` to the statements and the openapi.json of the release."""
    for file in (release / "sql").glob("*_task*.sql"):
        text = file.read_text().replace("completed, created_at", "completed, mood, created_at")
        text = text.replace("AS completed,", "AS completed, 'low' AS mood,")
        file.write_text(text.replace("(user_id, title,", "(mood, user_id, title,").replace("VALUES (", "VALUES ('low', "))
    path = release / "todo_api/openapi.json"
    document = json.loads(path.read_text())
    document["components"]["schemas"]["Task"]["properties"]["mood"] = {"type": ["string", "null"]}
    path.write_text(json.dumps(document))


def use(alice: Client) -> Response:
    """Call each operation once and check its status. Return the response of the create."""
    answers = [alice.call(*operation) for operation in every_operation(alice.create()["id"])]
    assert [answer.status for answer in answers] == [200, 201, 200, 200, 200, 204], answers
    return answers[1]


def test_it_works(empty_database: str, tmp_path: Path) -> None:
    release = next_release(
        tmp_path,
        "ALTER TABLE tasks ADD COLUMN mood text",
        "ALTER TABLE tasks ADD CONSTRAINT tasks_mood CHECK (mood IN ('low', 'high')) NOT VALID",
        "ALTER TABLE tasks VALIDATE CONSTRAINT tasks_mood",
        f"-- No transaction\n{INDEX}",
    )
    give_tasks_a_mood(release)
    user = f"alice-{uuid.uuid4()}"
    with (
        Service(empty_database, DB_POOL_SIZE="4") as old,
        writing(old.client(user), use) as before,
        Service(empty_database, release=release) as new,
        writing(new.client(user), use) as after,
    ):
        before.wait_for_more()
        after.wait_for_more()
        assert "mood" not in old.client(user).create()
        assert new.client(user).create()["mood"] == "low"
        assert old.stop() == 0
        after.wait_for_more()
        assert {record["level"] for each in (old, new) for record in each.logs()} == {"INFO"}
    assert (before.refusals, after.refusals, after.broken) == ([], [], [])
    assert lost(empty_database, old.client(user), before) == lost(empty_database, new.client(user), after) == set()


class Stage(NamedTuple):
    old: Service  # it is running
    long: psycopg.Connection  # a transaction that blocks every statement that needs to lock the table
    sql: psycopg.Connection  # a direct connection
    start: Callable[[Service], Future[Service]]  # starts a service in the background


@pytest.fixture
def stage(empty_database: str) -> Iterator[Stage]:
    with (
        Service(empty_database) as old,
        psycopg.connect(empty_database) as long,
        psycopg.connect(empty_database, autocommit=True) as sql,
        ThreadPoolExecutor(1) as thread,
        ExitStack() as running,
    ):
        long.execute("UPDATE tasks SET title = title WHERE user_id = 'nobody'")
        yield Stage(old, long, sql, lambda new: thread.submit(running.enter_context, new))


@pytest.mark.parametrize(
    "migration",
    [
        "ALTER TABLE tasks ADD COLUMN mood text",
        "ALTER TABLE tasks ADD CHECK (title <> 'x') NOT VALID",
        "CREATE INDEX ON tasks (user_id, title)",
    ],
)
def test_a_migration_that_waits_for_a_long_transaction_blocks_no_requests(
    migration: str, stage: Stage, empty_database: str, tmp_path: Path
) -> None:
    starting = stage.start(Service(empty_database, release=next_release(tmp_path, migration)))
    for _ in range(2):
        wait_until(lambda: locked(stage.sql, migration), "the migration waits for its lock")
        use(stage.old.client("alice"))
    assert not starting.done()
    stage.long.rollback()
    use(starting.result().client("alice"))


@pytest.mark.parametrize("crash", [False, True], ids=["the server goes on", "the server stops too"])
def test_an_interrupted_index_build_is_repeated_at_the_next_start(
    crash: bool, stage: Stage, empty_database: str, tmp_path: Path
) -> None:
    sql, state = stage.sql, "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('tasks_title')"
    new = Service(empty_database, release=next_release(tmp_path, f"-- No transaction: a new one after a failure\n{INDEX}"))
    killed = subprocess.Popen(new.command, env=new.env, **new.options)
    wait_until(lambda: locked(sql, "CREATE INDEX CONCURRENTLY"), "the index is being built")
    killed.kill()
    killed.wait()
    if crash:
        sql.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE starts_with(query, 'CREATE INDEX')")
    assert sql.execute(state).fetchone() == (False,)
    starting = stage.start(new)
    wait_until(lambda: locked(sql, "-- No transaction"), "the next start waits")
    use(stage.old.client("alice"))
    stage.long.rollback()
    use(starting.result().client("alice"))
    assert sql.execute(state).fetchone() == (True,)
