"""The import of tasks from the FastAPI backend with `sql/legacy/import_tasks.sql`."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.support.client import Client, application, in_process
from tests.support.legacy import TABLE
from tests.support.psql import psql
from tests.support.server import wait_until
from todo_api.migrations import migrate
from todo_api.statements import SQL

FILE = SQL / "legacy/import_tasks.sql"
COMMENTS = "\n".join(line[5:] for line in FILE.read_text().splitlines() if line.startswith("--   "))
COUNTS = ["read", "copied", "updated", "already in tasks", "changed in tasks", "deleted from tasks", "left out"]
# SQLModel 0.0.14 creates columns without maximum lengths. A table that was changed by hand may have no constraints at all.
LOOSE = """
ALTER TABLE task ALTER id TYPE bigint, ALTER title TYPE varchar, ALTER title DROP NOT NULL, ALTER description TYPE varchar,
    ALTER user_id DROP NOT NULL, ALTER completed DROP NOT NULL, ALTER created_at DROP NOT NULL, ALTER updated_at DROP NOT NULL
"""
NOON = datetime(2025, 7, 1, 12, 0, 0, 123456)
TASK = {"user_id": "alice", "title": "Buy milk", "description": None, "completed": False, "created_at": NOON, "updated_at": NOON}
WORDS = [
    "Milch kaufen",
    "牛乳を買う",
    "שלום",
    "a\u0301",
    "🧑‍🚀 fly",
    "tab\tand\nline",
    "'; DROP TABLE task; --",
    "\\N",
    '{"a": 1}',
    "é" * 200,
    "\u00a0",
]

Users = Callable[[str], Client]
Key = tuple[str | None, int]
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Report:
    counts: dict[str, int]
    notes: dict[str, str]  # by task id, "" for notes that are not about a task

    def __getitem__(self, name: str) -> int:
        return self.counts[name]


def run(url: str, **variables: str) -> Report:
    """Run the import in psql in a time zone west of UTC. Return what it prints."""
    counts, *notes = psql(url, FILE, "-A", "-t", time_zone="America/New_York", ON_ERROR_STOP="0", **variables).splitlines()
    numbers = [int(number) for number in counts.split("|")]
    return Report(dict(zip(COUNTS, numbers, strict=True)), {line.split("|")[0]: line.split("|")[2] for line in notes})


def statements(*verbs: str) -> str:
    """Return the statements in the file's comments that begin with one of these words."""
    return ";".join(text for text in COMMENTS.split(";\n") if text.startswith(verbs))


@pytest.fixture
def url(empty_database: str) -> str:
    migrate(empty_database)
    with psycopg.connect(empty_database) as conn:
        conn.execute(TABLE)
    return empty_database


@pytest.fixture
def db(url: str) -> Iterator[psycopg.Connection]:
    """Open a direct connection to the database, in UTC."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("SET TimeZone = 'UTC'")
        yield conn


@pytest.fixture
def client(url: str) -> Iterator[Callable[[str], Client]]:
    with application(url) as app:
        yield lambda user_id: Client(in_process(app), user_id)


def add(db: psycopg.Connection, *tasks: dict[str, Any], table: str = "task") -> list[int]:
    """Insert tasks into the old backend's table, or into another one. Return their ids."""
    ids = []
    for fields in tasks:
        task = {**TASK, **fields}
        columns, values = sql.SQL(", ").join(map(sql.Identifier, task)), sql.SQL(", ").join(sql.SQL("%s") for _ in task)
        insert = sql.SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING id").format(sql.Identifier(table), columns, values)
        ids += [row[0] for row in db.execute(insert, list(task.values()))]
    return ids


def tasks(db: psycopg.Connection, table: str = "tasks") -> dict[Key, Row]:
    times = "created_at::timestamptz::text, updated_at::timestamptz::text"
    select = "SELECT user_id, id, title, description, completed, {} FROM {}"
    rows = db.execute(sql.SQL(select).format(sql.SQL(times), sql.Identifier(table)))
    return {(user_id, id_): tuple(values) for user_id, id_, *values in rows}


def change(db: psycopg.Connection, task_id: int, title: str, user_id: str | None = "alice", table: str = "task") -> None:
    """Change the title of a task, in the way that both backends do it."""
    update = "UPDATE {} SET title = %s, updated_at = greatest(now(), updated_at) WHERE user_id = %s AND id = %s"
    db.execute(sql.SQL(update).format(sql.Identifier(table)), [title, user_id, task_id])


def test_it_works(url: str, db: psycopg.Connection, client: Users) -> None:
    add(
        db,
        *(
            {
                "user_id": f"user-{n % 7}",
                "title": WORDS[n % len(WORDS)],
                "description": [None, "", "ü" * 1000, "two\nlines"][n % 4],
                "completed": n % 3 == 0,
                "created_at": NOON + timedelta(seconds=n),
                "updated_at": NOON + timedelta(days=n, microseconds=n),
            }
            for n in range(5000)
        ),
    )
    report = run(url)
    assert report.counts == {**dict.fromkeys(COUNTS, 0), "read": 5000, "copied": 5000}
    assert report.notes == {}
    assert tasks(db) == tasks(db, "task")
    listed = client("user-3").list()
    assert [task["id"] for task in listed] == list(range(4, 5001, 7))
    assert listed[0] == {
        "id": 4,
        "user_id": "user-3",
        "title": WORDS[3],
        "description": "two\nlines",
        "completed": True,
        "created_at": "2025-07-01T12:00:03.123456+00:00",
        "updated_at": "2025-07-04T12:00:00.123459+00:00",
    }
    assert client("user-3").create()["id"] == 5001


def test_a_second_run_touches_nothing(url: str, db: psycopg.Connection) -> None:
    add(db, {}, {"user_id": "bob"})
    run(url)
    before = db.execute("SELECT xmin, tasks FROM tasks ORDER BY id").fetchall()
    assert run(url).counts == {**dict.fromkeys(COUNTS, 0), "read": 2, "already in tasks": 2}
    assert db.execute("SELECT xmin, tasks FROM tasks ORDER BY id").fetchall() == before


def test_later_changes_in_the_old_backend_are_imported(url: str, db: psycopg.Connection, client: Users) -> None:
    alice = client("alice")
    first, second = add(db, {}, {})
    run(url)
    etag = alice.call("GET", first).headers["ETag"]
    change(db, first, "Changed there")
    (third,) = add(db, {"title": "New there"})
    report = run(url)
    assert (report["copied"], report["updated"], report["already in tasks"]) == (1, 1, 1)
    assert tasks(db) == tasks(db, "task")
    assert alice.call("GET", first, headers={"If-None-Match": etag}).json["title"] == "Changed there"
    change(db, first, "Changed there again")
    assert run(url)["updated"] == 1
    assert [(task["id"], task["title"]) for task in alice.list()] == [
        (first, "Changed there again"),
        (second, "Buy milk"),
        (third, "New there"),
    ]


def test_changes_made_here_are_kept(url: str, db: psycopg.Connection, client: Users) -> None:
    alice = client("alice")
    here, both, older = add(db, {}, {}, {})
    run(url)
    alice.call("PATCH", f"{here}/complete")
    alice.call("PUT", both, {"title": "Changed here"})
    change(db, both, "Changed there")
    db.execute("UPDATE task SET title = 'From a backup', updated_at = updated_at - interval '1 day' WHERE id = %s", [older])
    before = tasks(db)
    for _ in range(2):
        report = run(url)
        assert (report["changed in tasks"], report["left out"]) == (1, 2)
        assert report.notes == {
            str(both): "changed in the old table and in tasks",
            str(older): "changed in the old table, but not later than in tasks",
        }
        assert tasks(db) == before


def test_tasks_deleted_here_are_not_imported_again(url: str, db: psycopg.Connection, client: Users) -> None:
    unchanged, changed = add(db, {}, {})
    run(url)
    for task_id in (unchanged, changed):
        assert client("alice").call("DELETE", task_id).status == 204
    change(db, changed, "Changed there")
    report = run(url)
    assert tasks(db) == {}
    assert (report["deleted from tasks"], report.notes) == (1, {str(changed): "changed in the old table, but deleted from tasks"})
    db.execute(statements("DELETE").replace("7", str(changed)))
    assert run(url)["copied"] == 1
    assert tasks(db).keys() == {("alice", changed)}


def test_tasks_deleted_in_the_old_backend_are_kept_and_reported(url: str, db: psycopg.Connection) -> None:
    gone, there = add(db, {}, {})
    run(url)
    before = tasks(db)
    db.execute("DELETE FROM task WHERE id = %s", [gone])
    assert run(url).notes == {str(gone): "deleted from the old table, still in tasks"}
    assert tasks(db) == before
    assert ("alice", there) in before


def test_an_id_that_is_taken_here_is_reported(url: str, db: psycopg.Connection, client: Users) -> None:
    made = [client("alice").create(f"Made here {n}") for n in range(7)]
    add(db, *({"title": f"Old {n}", "user_id": "alice" if n == 6 else "bob"} for n in range(7)))
    report = run(url)
    assert (report["copied"], report.notes) == (6, {"7": "another task of the user has this id in tasks"})
    assert client("alice").list() == made
    (statement,) = (text for text in COMMENTS.split(";\n") if text.endswith("id = 7") and text.startswith("UPDATE"))
    db.execute(statement)
    report = run(url)
    assert (report["copied"], report["already in tasks"], report["left out"]) == (1, 6, 0)
    assert client("alice").list()[:7] == made
    assert client("alice").list()[7]["title"] == "Old 6"


REFUSED: dict[str, list[dict[str, Any]]] = {
    "id below 1 or over 2^53": [{"id": 0}, {"id": -5}, {"id": 2**53}],
    "user_id missing, empty or over 255 characters": [{"user_id": None}, {"user_id": ""}, {"user_id": "ü" * 256}],
    "title missing or blank": [{"title": None}, {"title": ""}, {"title": " "}, {"title": "\t\r\n "}],
    "title over 200 characters": [{"title": "ü" * 201}],
    "description over 1000 characters": [{"description": "ü" * 1001}],
    "completed missing": [{"completed": None}],
    "created_at missing or infinite": [{"created_at": None}, {"created_at": "infinity"}],
    "updated_at missing or infinite": [{"updated_at": None}, {"updated_at": "-infinity"}],
    "title missing or blank, updated_at missing or infinite": [{"title": "", "updated_at": None}],
}


def test_invalid_tasks_are_reported_and_the_others_are_imported(url: str, db: psycopg.Connection, client: Users) -> None:
    db.execute(LOOSE)
    good = add(db, {"user_id": "ü" * 255, "title": "ü" * 200, "description": "ü" * 1000}, {"title": "."})
    refused = {str(id_): reason for reason, rows in REFUSED.items() for id_ in add(db, *rows)}
    report = run(url)
    assert (report["copied"], report["left out"], report.notes) == (len(good), len(refused), refused)
    assert {key[1] for key in tasks(db)} == set(good)
    assert client("alice").create()["id"] < 1000


def test_tasks_are_copied_after_the_corrections_in_the_file(url: str, db: psycopg.Connection, client: Users) -> None:
    db.execute(LOOSE)
    mendable = [row for rows in REFUSED.values() for row in rows if "infinity" not in str(row) and "id" not in row]
    ids = add(db, *mendable, {"title": "t" * 300, "description": "and more"})
    assert run(url)["left out"] == len(ids)
    assert client("bob").create()["id"] > max(ids)
    db.execute(statements("UPDATE"))
    report = run(url)
    assert (report["copied"], report["left out"], report.notes) == (len(ids), 0, {})
    assert ("t" * 200, "t" * 300 + "\nand more") in {row[:2] for row in tasks(db).values()}


def test_an_unknown_column_is_reported(url: str, db: psycopg.Connection) -> None:
    db.execute("ALTER TABLE task ADD priority VARCHAR")
    assert run(url).notes == {"": "tasks has no column for priority"}


def test_ids_never_move_back(url: str, db: psycopg.Connection, client: Users) -> None:
    add(db, {})
    db.execute("SELECT setval(pg_get_serial_sequence('tasks', 'id'), 1000)")
    run(url)
    assert client("alice").create()["id"] > 1000


def test_times_with_a_zone_are_kept(url: str, db: psycopg.Connection, client: Users) -> None:
    """Newer versions of SQLModel create columns of this type."""
    db.execute("ALTER TABLE task ALTER created_at TYPE timestamptz, ALTER updated_at TYPE timestamptz")
    add(db, {"created_at": "2025-07-01 12:00+02", "updated_at": "2025-07-01 12:00-02"})
    run(url)
    (task,) = client("alice").list()
    assert (task["created_at"], task["updated_at"]) == ("2025-07-01T10:00:00+00:00", "2025-07-01T14:00:00+00:00")


def test_an_old_table_named_tasks_can_be_moved_and_imported(empty_database: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute(TABLE.replace("TABLE task", "TABLE tasks").replace("ix_task_user_id ON task", "ix_tasks_user_id ON tasks"))
        add(conn, {}, table="tasks")
        with pytest.raises(SystemExit, match='"tasks" already exists'):
            migrate(empty_database)
        conn.execute(statements("CREATE SCHEMA", "ALTER TABLE"))
        migrate(empty_database)
        assert run(empty_database, source="old.tasks")["copied"] == 1
        assert tasks(conn).keys() == {("alice", 1)}


def test_going_back_copies_the_tasks_created_here(url: str, db: psycopg.Connection, client: Users) -> None:
    before = add(db, {}, {})
    run(url)
    made = client("alice").create("Made here")
    db.execute(statements("SET", "INSERT", "SELECT"))
    assert tasks(db, "task") == tasks(db)
    assert add(db, {}) == [made["id"] + 1]
    report = run(url)
    assert (report["copied"], report["already in tasks"], report.notes) == (1, len(before) + 1, {})
    client("alice").call("DELETE", made["id"])
    assert run(url)["deleted from tasks"] == 1


def test_a_failed_run_changes_nothing(url: str, db: psycopg.Connection) -> None:
    add(db, {})
    db.execute(
        "CREATE TABLE imported_tasks (user_id text, id bigint, content text CHECK (content = ''), PRIMARY KEY (user_id, id))"
    )
    with pytest.raises(AssertionError, match="imported_tasks_content_check"):
        run(url)
    assert tasks(db) == {}


def test_an_uncommitted_change_here_is_not_overwritten(url: str, db: psycopg.Connection) -> None:
    (task_id,) = add(db, {})
    run(url)
    change(db, task_id, "Changed there")
    waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with psycopg.connect(url) as here, ThreadPoolExecutor() as threads:
        change(here, task_id, "Changed here", table="tasks")
        report = threads.submit(run, url)
        wait_until(lambda: db.execute(waiting).fetchone() is not None, "the import waits")
        here.commit()
        assert report.result().notes == {str(task_id): "changed in the old table and in tasks"}
    assert tasks(db)["alice", task_id][0] == "Changed here"


def test_with_changes_on_both_sides_nothing_is_lost_or_overwritten(url: str, db: psycopg.Connection) -> None:
    """Both backends run, people fix and break rows by hand, and the import runs from time to time."""
    dice = random.Random(7)
    db.execute(LOOSE)
    rows = [TASK] * 60 + [row for refused in REFUSED.values() for row in refused if "id" not in row]
    made: set[Key] = set()
    touched: set[Key] = set()
    for _ in range(4):
        add(db, *({**dice.choice(rows), "user_id": dice.choice("abcd")} for _ in range(1000)))
        made |= {(user, add(db, {"user_id": user, "title": "Made here"}, table="tasks")[0]) for user in "abcd" * 5}
        for _, id_ in dice.sample(sorted(tasks(db, "task")), 200):
            there = ["title = 'Changed'", "title = ''", "title = 'Mended', updated_at = now()", "completed = NOT completed"]
            db.execute(sql.SQL("UPDATE task SET {} WHERE id = %s").format(sql.SQL(dice.choice(there))), [id_])
            db.execute("DELETE FROM task WHERE id = %s", [id_ + 1])
        for user, id_ in dice.sample(sorted(tasks(db).keys() - made), min(150, len(tasks(db)) - len(made))):
            touched.add((user, id_))
            change(db, id_, "Changed here", user, "tasks")
            if dice.random() < 0.3:
                db.execute("DELETE FROM tasks WHERE user_id = %s AND id = %s", [user, id_])

        old, before = tasks(db, "task"), tasks(db)
        report = run(url)
        after = tasks(db)
        named = {key for key in old.keys() | after.keys() if str(key[1]) in report.notes}
        assert report["read"] == len(old) == sum(report.counts.values()) - report["read"]
        assert {key for key in made | touched if after.get(key) != before.get(key)} == set()
        assert before.keys() <= after.keys()
        assert {key for key, row in old.items() if after.get(key) != row} <= named | touched
        assert after.keys() - old.keys() <= named | made | touched
