"""The files of `sql/inspect/` in psql, for the owner of the tables and for the role of `sql/roles/inspector.sql`.

The tests run on the embedded PostgreSQL, which lacks pg_stat_statements, and on Debian's PostgreSQL versions, which have it.
"""

import csv
import os
import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from flask import Flask

from dev.postgres import WHEEL, Postgres
from tests.support.client import Client, application, in_process
from tests.support.psql import check_head, psql
from tests.support.server import wait_until
from todo_api.migrations import migrate
from todo_api.statements import SQL

INSPECTOR = SQL / "roles" / "inspector.sql"
FILES = sorted(SQL.glob("inspect/*.sql"))
DEBIANS = sorted(path.parents[1] for path in Path("/usr/lib/postgresql").glob("1[5-9]/bin/postgres"))
TASKS = {"alice": 3, "bob": 12}


@dataclass(frozen=True)
class House:
    """A server with the service's tables and some tasks, and the application that created them."""

    server: Postgres
    counts: bool
    app: Flask

    def url(self, role: str) -> str:
        return as_role(self.server, role)

    def client(self, user_id: str) -> Client:
        return Client(in_process(self.app), user_id)

    def owner(self) -> psycopg.Connection:
        return psycopg.connect(self.url("owner"), autocommit=True)


def as_role(server: Postgres, role: str) -> str:
    return server.url("todo").replace("//postgres@", f"//{role}@")


@pytest.fixture(scope="module", params=[WHEEL, *DEBIANS], ids=lambda path: path.name)
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    counts = request.param != WHEEL
    settings = ["fsync=off", "autovacuum=off", *(["shared_preload_libraries=pg_stat_statements"] if counts else [])]
    with tempfile.TemporaryDirectory(prefix="todo_test_") as home, pytest.MonkeyPatch.context() as patch:
        patch.setattr("dev.postgres.WHEEL", request.param)
        with Postgres(Path(home), *settings) as server:
            with psycopg.connect(server.url("postgres"), autocommit=True) as conn:
                # These are the rights of a database owner at a host such as Neon: far fewer than a superuser's.
                conn.execute("CREATE ROLE owner LOGIN CREATEROLE; GRANT pg_monitor TO owner WITH ADMIN OPTION")
                conn.execute("CREATE ROLE stranger LOGIN")
                conn.execute("CREATE DATABASE todo OWNER owner")
            if counts:
                with psycopg.connect(server.url("todo"), autocommit=True) as conn:
                    conn.execute("CREATE EXTENSION pg_stat_statements")
            with application(as_role(server, "owner"), DB_POOL_SIZE="1") as app:
                house = House(server, counts, app)
                migrate(house.url("owner"))
                psql(house.url("owner"), INSPECTOR)
                fill(house)
                yield house


def fill(house: House) -> None:
    ids = {user_id: [house.client(user_id).create(f"Task {n}")["id"] for n in range(count)] for user_id, count in TASKS.items()}
    assert house.client("alice").call("PATCH", f"{ids['alice'][0]}/complete").status == 200
    with house.app.extensions["pool"].connection() as conn:
        conn.execute("SELECT pg_stat_force_next_flush()")
    with house.owner() as conn:
        conn.execute(
            "INSERT INTO tasks (user_id, title, created_at, updated_at) VALUES ('carol', 'old', '2020-01-01', '2020-01-01')"
        )
        conn.execute("GRANT SELECT ON tasks, schema_migrations TO stranger")
        conn.execute("VACUUM ANALYZE tasks")


@pytest.fixture(params=["owner", "inspector"])
def url(request: pytest.FixtureRequest, house: House) -> str:
    return house.url(request.param)


def rows(url: str, name: str, time_zone: str = "Asia/Tokyo") -> list[dict[str, str]]:
    """Return the rows that the file prints."""
    file = SQL / "inspect" / f"{name}.sql"
    lines = list(csv.reader(psql(url, file, "--csv", time_zone=time_zone, **variables(file)).splitlines()))
    return [dict(each for each in lines)] if name == "server" else [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def variables(file: Path) -> dict[str, str]:
    text = file.read_text()
    return {name: value for name, value in {"user_id": "alice", "task_id": "1"}.items() if f":'{name}'" in text}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@pytest.mark.parametrize("role", ["postgres", "owner", "inspector", "stranger"])
def test_it_works(role: str, file: Path, house: House) -> None:
    printed = psql(house.url(role), file, **variables(file))
    assert printed
    assert max(map(len, printed.splitlines())) <= 150


@pytest.mark.parametrize("file", [*FILES, INSPECTOR], ids=lambda file: file.stem)
def test_the_header_comment_says_how_to_try_the_file(file: Path) -> None:
    check_head(file)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_leaves_no_setting_behind(file: Path) -> None:
    """A setting would stay in the session. Behind a pooler, other clients would get that session."""
    assert not re.search(r"^ *(SET|\\(pset|x|set|t|a))\b", file.read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", [file.stem for file in FILES if "_utc" in file.read_text()])
def test_times_are_utc_in_every_time_zone(name: str, house: House) -> None:
    def times(time_zone: str) -> list[list[str]]:
        found = rows(house.url("owner"), name, time_zone)
        return [[value for column, value in row.items() if column.endswith("_utc")] for row in found]

    assert times("Asia/Tokyo") == times("UTC") != []


def test_user_tasks_shows_the_same_tasks_as_the_api(url: str, house: House) -> None:
    tasks = house.client("alice").list()
    found = {row["id"]: row for row in rows(url, "user_tasks")}
    assert next(iter(found)) == str(tasks[0]["id"])  # the last changed task
    assert len(found) == len(tasks) == TASKS["alice"]
    for task in tasks:
        row = found[str(task["id"])]
        assert (row["title"], row["done"]) == (task["title"], "done" if task["completed"] else "")
        assert row["updated_utc"] == task["updated_at"][:19].replace("T", " ")


def test_user_tasks_are_limited(house: House) -> None:
    with house.owner() as conn:
        conn.execute("INSERT INTO tasks (user_id, title) SELECT 'frank', n FROM generate_series(1, 150) AS n")
        file = SQL / "inspect" / "user_tasks.sql"
        lines = list(csv.DictReader(psql(house.url("inspector"), file, "--csv", user_id="frank").splitlines()))
        conn.execute("DELETE FROM tasks WHERE user_id = 'frank'")
    assert (len(lines), lines[0]["all_tasks"]) == (100, "150")


def test_a_task_is_found_by_its_id_alone(url: str, house: House) -> None:
    task = house.client("bob").list()[3]
    printed = psql(url, SQL / "inspect" / "task.sql", "--csv", task_id=str(task["id"]))
    (row,) = csv.DictReader(printed.splitlines())
    assert (row["user_id"], row["id"], row["title"]) == ("bob", str(task["id"]), task["title"])


CITUS = """
CREATE TABLE pg_dist_partition ();
CREATE VIEW citus_tables AS SELECT 'tasks' AS table_name, 'distributed' AS citus_table_type, 'user_id' AS distribution_column,
    '1 GB' AS table_size, 32 AS shard_count;
CREATE VIEW citus_lock_waits AS SELECT 1 AS waiting_gpid, 2 AS blocking_gpid, 'UPDATE' AS blocked_statement,
    'DELETE' AS current_statement_in_blocking_process;
CREATE FUNCTION citus_get_active_worker_nodes(OUT node_name text, OUT node_port bigint) RETURNS SETOF record LANGUAGE sql
    AS $$ SELECT 'worker-1', 5432::bigint $$;
GRANT SELECT ON citus_tables, citus_lock_waits TO inspector
"""


@pytest.mark.parametrize("name", ["tables", "indexes", "server", "locks"])
def test_on_citus_a_file_says_what_it_does_not_show(name: str, url: str, house: House) -> None:
    """Citus is not installed here, so fake objects have the names of its views and function."""
    with psycopg.connect(house.url("owner")) as conn:
        conn.execute(CITUS)
        conn.commit()
        try:
            printed = psql(url, SQL / "inspect" / f"{name}.sql")
        finally:
            conn.execute("DROP TABLE pg_dist_partition; DROP VIEW citus_tables, citus_lock_waits")
            conn.execute("DROP FUNCTION citus_get_active_worker_nodes()")
            conn.commit()
    assert printed.startswith("On Citus ")
    assert max(map(len, printed.splitlines())) <= 150


def test_tasks_per_user_counts_users_by_how_many_they_have(url: str) -> None:
    assert [tuple(row.values()) for row in rows(url, "tasks_per_user")] == [
        ("1 to 9", "2", "4", "3"),
        ("10 to 99", "1", "12", "12"),
        ("all", "3", "16", "12"),
    ]


def test_busiest_users_omits_inactive_users(url: str) -> None:
    found = [(row["user_id"], row["last_hour"], row["last_day"], row["new"]) for row in rows(url, "busiest_users")]
    assert found == [("bob", "12", "12", "12"), ("alice", "3", "3", "3")]


def test_recent_changes_begin_with_the_last_one(url: str, house: House) -> None:
    found = rows(url, "recent_changes")
    changed = house.client("alice").list()[0]
    assert [(row["user_id"], row["id"], row["what"]) for row in found[:2]] == [
        ("alice", str(changed["id"]), "changed"),
        ("bob", str(house.client("bob").list()[-1]["id"]), "made"),
    ]
    assert found[-1]["updated_utc"] == "2020-01-01 00:00:00"


def test_tables_shows_dead_rows_and_unused_space(url: str, house: House) -> None:
    def tasks() -> dict[str, str]:
        return next(row for row in rows(url, "tables") if row["table"] == "tasks")

    with house.owner() as conn:
        conn.execute("INSERT INTO tasks (user_id, title) SELECT 'dave', n FROM generate_series(1, 4000) AS n")
        conn.execute("VACUUM ANALYZE tasks")
        full = tasks()
        conn.execute("DELETE FROM tasks WHERE user_id = 'dave' AND id % 4 <> 0")
        conn.execute("SELECT pg_stat_force_next_flush()")
        assert int(tasks()["dead_rows"]) - int(full["dead_rows"]) == 3000
        conn.execute("VACUUM ANALYZE tasks")
        empty = tasks()
        conn.execute("DELETE FROM tasks WHERE user_id = 'dave'")
        conn.execute("VACUUM ANALYZE tasks")
    assert (full["rows"], empty["rows"]) == ("4016", "1016")
    assert full["size"] == empty["size"]
    assert full["size"].endswith(" kB")
    assert int(full["unused_percent"]) < 35
    assert int(empty["unused_percent"]) > 70
    assert full["hot_percent"] == "100"
    assert full["vacuumed_utc"] <= empty["vacuumed_utc"]


def test_indexes_shows_scans_and_invalid_indexes(url: str, house: House) -> None:
    with house.owner() as conn:
        with pytest.raises(psycopg.errors.UniqueViolation):
            conn.execute("CREATE UNIQUE INDEX CONCURRENTLY failed ON tasks (user_id)")
        found = {row["index"]: row for row in rows(url, "indexes")}
        conn.execute("DROP INDEX failed")
    assert {name: row["state"] for name, row in found.items()} == {
        "tasks_pkey": "", "tasks_idempotency_key": "", "failed": "NOT VALID", "schema_migrations_pkey": "",
    }  # fmt: skip
    assert int(found["tasks_pkey"]["scans"]) > 0
    assert found["tasks_pkey"]["size"].endswith(" kB")


def test_constraints_begins_with_those_that_are_not_valid(url: str, house: House) -> None:
    with house.owner() as conn:
        conn.execute("ALTER TABLE tasks ADD CONSTRAINT z_later CHECK (title <> 'old') NOT VALID")
        first, *others = rows(url, "constraints")
        conn.execute("ALTER TABLE tasks DROP CONSTRAINT z_later")
    assert (first["constraint"], first["state"]) == ("z_later", "NOT VALID")
    assert {row["state"] for row in others} == {""}
    assert "CHECK ((char_length(VALUE) <= 200))" in {row["definition"] for row in others}


def test_slow_statements_lists_statements_or_says_what_is_missing(url: str, house: House) -> None:
    if house.counts:
        with psycopg.connect(house.url("postgres"), autocommit=True) as conn:
            conn.execute("SELECT pg_stat_statements_reset()")
        erin = house.client("erin")
        tasks = [erin.create() for _ in range(3)]
        assert {erin.call("DELETE", task["id"]).status for task in tasks} == {204}
        found = rows(url, "slow_statements")
        counted = {row["statement"]: (row["calls"], row["rows_each"]) for row in found}
        assert (counted["create_task"], counted["delete_task"]) == (("3", "1.0"), ("3", "1.0"))
        assert [float(row["total_s"]) for row in found] == sorted((float(row["total_s"]) for row in found), reverse=True)
        assert all(float(row["mean_ms"]) <= float(row["max_ms"]) + 0.05 for row in found)
        url = house.server.url("postgres")  # a database without the extension
    (line,) = psql(url, SQL / "inspect" / "slow_statements.sql").splitlines()
    assert "shared_preload_libraries" in line
    if not house.counts:
        with house.owner() as conn:
            conn.execute("CREATE VIEW pg_stat_statements AS SELECT")  # like an extension whose library is not loaded
            assert psql(url, SQL / "inspect" / "slow_statements.sql") == line
            conn.execute("DROP VIEW pg_stat_statements")


def test_one_of_the_servers_counts_statements() -> None:
    if not DEBIANS:
        reason = "Debian's PostgreSQL is not installed"
        pytest.fail(reason) if os.environ.get("REQUIRE_SERVERS") else pytest.skip(reason)


def test_locks_and_long_running_show_which_session_waits_for_which(url: str, house: House) -> None:
    erin = house.client("erin")
    task_id = erin.create()["id"]
    with (
        house.owner(),  # an idle connection, which must not be listed
        psycopg.connect(house.url("owner"), application_name="a migration") as holder,
        ThreadPoolExecutor(1) as threads,
    ):
        holder.execute("SELECT FROM tasks WHERE user_id = 'erin' FOR UPDATE")
        stuck = threads.submit(erin.call, "DELETE", task_id)
        wait_until(lambda: rows(url, "locks"), "the request waits for the row")
        (lock,) = rows(url, "locks")
        running = rows(url, "long_running")
        pid = str(holder.info.backend_pid)
        holder.rollback()
        assert stuck.result().status == 204
    assert (lock["statement"], lock["lock"]) == ("delete_task", "ShareLock on transactionid")
    assert (lock["holder"], lock["holder_state"]) == (pid, "idle in transaction")
    assert lock["last_statement"].startswith("SELECT FROM tasks WHERE user_id = 'erin'")
    assert [(row["pid"], row["application"], row["waits_for"]) for row in running] == [
        (lock["holder"], "a migration", "Client: ClientRead"),
        (lock["waiting"], "todo_api", "Lock: transactionid"),
    ]
    assert running[1]["statement"] == "delete_task"
    assert all(re.fullmatch(r"00:00:\d\d(\.\d{1,3})?", row[name]) for row in running for name in ("transaction", "in_state"))
    assert any("." in row[name] for row in running for name in ("transaction", "in_state"))
    assert rows(url, "locks") == []


def test_connections_are_counted_by_application_and_state(url: str, house: House) -> None:
    *kinds, total = rows(url, "connections")
    assert [(row["role"], row["state"], row["connections"]) for row in kinds if row["application"] == "todo_api"] == [
        ("owner", "idle", "1")
    ]
    assert total["database"] == "all of 100"
    assert int(total["connections"]) == sum(int(row["connections"]) for row in kinds)


def test_migrations_lists_every_file(url: str) -> None:
    assert [row["version"] for row in rows(url, "migrations")] == sorted(path.stem for path in SQL.glob("migrations/*.sql"))


def test_server_shows_version_size_and_settings(url: str, house: House) -> None:
    (found,) = rows(url, "server")
    with house.owner() as conn:
        assert conn.execute("SHOW server_version").fetchone() == (found["version"],)
    assert (found["database"], found["kind"], found["deadlocks"]) == ("todo", "primary", "0")
    assert found["size"].endswith((" kB", " MB"))
    assert 0 < float(found["cache_hit_percent"]) <= 100
    assert found["read_only"] == ("on, source: user" if "inspector@" in url else "off")


def test_the_server_shows_where_it_was_set_to_read_only(house: House) -> None:
    with house.owner() as conn:
        conn.execute("ALTER DATABASE todo SET default_transaction_read_only = on")
        try:
            (found,) = rows(house.url("owner"), "server")
        finally:
            conn.execute("ALTER DATABASE todo RESET default_transaction_read_only")
    assert found["read_only"] == "on, source: database"


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO tasks (user_id, title) VALUES ('alice', 'x')",
        "UPDATE tasks SET completed = true",
        "DELETE FROM tasks",
        "TRUNCATE tasks",
        "SELECT FROM tasks FOR UPDATE",
        "DROP TABLE tasks",
        "CREATE TABLE mine (id int)",
        "CREATE ROLE mine",
    ],
)
def test_the_inspector_changes_nothing(change: str, house: House) -> None:
    with psycopg.connect(house.url("inspector"), autocommit=True) as conn:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            conn.execute(change)
        conn.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(change)


def test_the_inspector_can_read_tables_of_later_migrations(house: House) -> None:
    psql(house.url("owner"), INSPECTOR)  # running it a second time does no harm
    with house.owner() as conn, psycopg.connect(house.url("inspector"), autocommit=True) as inspector:
        conn.execute("CREATE TABLE later (id int)")
        assert inspector.execute("SELECT FROM later").fetchall() == []
        conn.execute("DROP TABLE later")


def test_the_inspectors_statements_and_transactions_have_time_limits(house: House) -> None:
    with psycopg.connect(house.url("inspector")) as conn:
        limits = [
            conn.execute(f"SHOW {name}").fetchone() for name in ("statement_timeout", "idle_in_transaction_session_timeout")
        ]
    assert limits == [("30s",), ("1min",)]
