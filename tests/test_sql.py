"""The files of `sql/`: they run in psql, and their query plans are efficient."""

import json
import re
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.client import Client, application, in_process
from tests.support.load import every_operation
from tests.support.psql import check_head, psql
from tests.support.statements import BOUND, FILES, VALUES, execute, parameters
from todo_api.connection import SETTINGS, Connection
from todo_api.statements import SQL, read_statement

LIST = {name: VALUES[name] for name in ("status", "search", "after", "offset", "limit")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_runs_in_psql_as_its_header_says(file: Path, database_url: str) -> None:
    check_head(file)
    psql(database_url, file, **parameters(file))


def test_psql_prints_what_the_api_returns(alice: Client, database_url: str) -> None:
    task = alice.create('tïtle "q" ✓', description="a\nb")
    printed = psql(database_url, SQL / "list_tasks.sql", "-At", **{**LIST, "user_id": alice.user_id})
    assert json.loads(printed.rsplit("|", 1)[0]) == alice.list() == [task]


def test_values_are_quoted_by_psql_too(alice: Client, database_url: str) -> None:
    alice.create()
    assert psql(database_url, SQL / "list_tasks.sql", "-At", **{**LIST, "user_id": "x' OR 'a' = 'a"}).startswith("[]|")


def test_an_operation_runs_one_statement(database_url: str) -> None:
    with application(database_url, DB_POOL_SIZE="1") as app:
        alice = Client(in_process(app), f"alice-{uuid.uuid4()}")
        operations = every_operation(alice.create()["id"])
        executed: list[str] = []
        with app.extensions["pool"].connection() as conn:
            conn.execute("SET log_statement = 'all'; SET client_min_messages = log")  # the server sends its log to the client
            conn.add_notice_handler(lambda notice: executed.append(notice.message_primary or ""))
        for operation in operations:
            alice.call(*operation)
        alice.call("POST", body={"title": "x"}, headers={"Idempotency-Key": "k"})
    names = [re.findall(r"/\* (\w+) \*/", text) for text in executed]
    expected = ["list_tasks", "create_task", "get_task", "update_task", "update_task", "delete_task", "create_task_once"]
    assert names == [[name] for name in expected]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_statement_names_its_columns(file: Path) -> None:
    """A prepared `SELECT *` breaks when a migration adds a column."""
    assert not re.search(r"SELECT \*|\w\.\*|RETURNING \*", re.sub(r"'[^']*'|--.*", "", file.read_text()))


@pytest.mark.parametrize("file", sorted(SQL.glob("list_tasks_*.sql")), ids=lambda file: file.stem)
def test_all_list_statements_have_the_same_filters_and_results(file: Path) -> None:
    shared = r"      AND \(:'status'.*\n      AND \((?:\n.*)+?\n      \)\n|    OFFSET(?:.*\n)+"
    assert re.findall(shared, file.read_text()) == re.findall(shared, (SQL / "list_tasks.sql").read_text())
    assert len(re.findall(shared, file.read_text())) == 2


def plan(sql: psycopg.Connection, file: Path, values: dict[str, str]) -> list[dict[str, Any]]:
    """Return all nodes of the statement's query plan."""
    sql.execute(SETTINGS)
    row = execute(sql, file, values, b"EXPLAIN (FORMAT json) ").fetchone()
    assert row
    nodes, waiting = [], [row[0][0]["Plan"]]
    while waiting:
        nodes.append(waiting.pop())
        waiting += nodes[-1].get("Plans", [])
    return nodes


@pytest.fixture(scope="session")
def crowded(database_url: str) -> str:
    """Insert 100,000 tasks of 1,000 users. Return the database's URL."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("INSERT INTO tasks (user_id, title) SELECT 'crowd-' || n % 1000, n FROM generate_series(1, 100000) AS n")
        conn.execute("VACUUM ANALYZE tasks")
    return database_url


@pytest.mark.usefixtures("crowded")
@pytest.mark.parametrize("file", BOUND, ids=lambda file: file.stem)
def test_a_plan_reads_one_range_of_the_key_and_sorts_nothing(file: Path, sql: psycopg.Connection) -> None:
    nodes = plan(sql, file, {**parameters(file), "user_id": "crowd-5"})
    kinds = {node["Node Type"] for node in nodes}
    assert not kinds & ({"Seq Scan"} if file.stem == "list_tasks_sorted" else {"Seq Scan", "Sort", "Incremental Sort"}), kinds
    for node in nodes:
        if node.get("Relation Name") == "tasks" and "Scan" in node["Node Type"]:
            assert "user_id" in node.get("Index Cond", "") or node["Node Type"] == "Bitmap Heap Scan", node


def test_a_statement_contains_the_name_of_its_file() -> None:
    assert read_statement(SQL / "get_task.sql").text.startswith(b"SELECT /* get_task */ ")
    assert b"--" not in read_statement(SQL / "get_task.sql").text


def test_no_value_is_cut_off_at_u0000(database_url: str) -> None:
    with Connection.connect(database_url, prepare="on") as conn, pytest.raises(psycopg.DataError, match="NUL"):
        conn.fetch_row(read_statement(SQL / "get_task.sql"), {"user_id": "alice\0bob", "task_id": "1"})
