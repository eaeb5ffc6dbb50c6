"""Citus: rules for statements and schema, checked on plain PostgreSQL, and tests on a real cluster if CITUS_TEST_URL is set."""

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from dev.postgres import new_database
from tests.support.client import Client, application, in_process
from tests.support.load import every_operation
from tests.support.statements import BOUND, FILES, execute, parameters
from todo_api import migrations
from todo_api.connection import SETTINGS
from todo_api.migrations import STATEMENT, migrate
from todo_api.statements import SQL

MIGRATIONS = sorted((SQL / "migrations").glob("*.sql"))
USER = "bob"
# In writes, Citus rejects most functions that are not immutable. Try a function on a real Citus before you add it here.
SAFE_FUNCTIONS = {"coalesce", "greatest", "nullif", "string_to_array", "extract", "md5"}


def refused(sql: str) -> set[str]:
    """Return what Citus rejects in the statement's writes. It also rejects immutable functions in RETURNING, unlike Citus."""
    found: set[str] = set()
    for write in re.findall(r"(?s)(?:INSERT INTO|UPDATE|DELETE FROM) tasks\b.*?(?=\n\)|\Z)", re.sub("--.*", "", sql)):
        change, _, returning = write.partition("RETURNING")
        # `timestamptz + interval` and casts to text depend on the session's time zone. AT TIME ZONE 'UTC' does not.
        change = re.sub(r"updated_at = (?=greatest)|greatest\(now\(\), |\w+_at AT TIME ZONE 'UTC'", "", change)
        functions = set(re.findall(r"\b([a-z_]\w*) ?\(", change)) - {*SAFE_FUNCTIONS, "tasks"}
        times = re.findall(r"\bcurrent_\w+|\blocaltime\w*|\w+_at\b", change)
        found |= {f"{name} in a write" for name in (*functions, *times)}
        columns = [column.strip() for column in returning.split(",")]
        found |= {f"{column} in RETURNING" for column in columns if not re.fullmatch(r"(?!current_)\w*", column)}
        if re.search(r"SET (?:(?!WHERE).)*\buser_id =", change, re.DOTALL):
            found.add("user_id changes")
    return found


@pytest.fixture(scope="module")
def partitioned() -> Iterator[psycopg.Connection]:
    """Create a database with tasks partitioned by user_id. A partition stands in for a Citus shard. Bob has task 1."""
    with new_database(os.environ["TEST_DATABASE_URL"]) as url:
        migrate(url)
        with psycopg.connect(url) as conn:
            (view,) = conn.execute("SELECT pg_get_viewdef('api_tasks'::regclass)").fetchone() or ("",)
            conn.execute("ALTER TABLE tasks RENAME TO plain")
            conn.execute("CREATE TABLE tasks (LIKE plain INCLUDING ALL) PARTITION BY HASH (user_id)")
            for n in range(16):
                conn.execute(f"CREATE TABLE shard_{n} PARTITION OF tasks FOR VALUES WITH (MODULUS 16, REMAINDER {n})")
            conn.execute(f"CREATE OR REPLACE VIEW api_tasks AS {view}")
            conn.execute("INSERT INTO tasks (user_id, title) VALUES (%s, 'x')", [USER])
            conn.commit()
            yield conn


def is_scattered(file: Path, conn: psycopg.Connection) -> bool:
    """Return whether the statement uses other shards than the user's."""
    with conn.transaction(force_rollback=True):
        shards = {shard for (shard,) in conn.execute("SELECT tableoid::regclass::text FROM tasks")}
        values = {**parameters(file), "user_id": USER}
        plan = execute(conn, file, values, b"EXPLAIN (ANALYZE) ").fetchall()
        touched = set(re.findall(r"\bshard_\d+", "\n".join(line for (line,) in plan)))
        rows = {user for (user,) in conn.execute("SELECT user_id FROM tasks")}
        return not (touched <= shards and rows <= {USER})


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_works(file: Path, partitioned: psycopg.Connection) -> None:
    assert refused(file.read_text()) == set()
    assert not is_scattered(file, partitioned)


def written_out(text: str) -> str:
    return text.replace("MINE", "WHERE user_id = :'user_id' AND id = :'task_id'::bigint").replace(
        "INSERTED",
        "INSERT INTO tasks (user_id, title, idempotency_key) VALUES (:'user_id', 'x', 'k') "
        "ON CONFLICT (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL",
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("UPDATE tasks SET completed = true MINE RETURNING to_json(title)", "to_json(title) in RETURNING"),
        ("UPDATE tasks SET completed = true MINE RETURNING updated_at::text", "updated_at::text in RETURNING"),
        ("DELETE FROM tasks MINE RETURNING id, now()", "now() in RETURNING"),
        ("DELETE FROM tasks MINE RETURNING current_timestamp", "current_timestamp in RETURNING"),
        ("UPDATE tasks SET updated_at = clock_timestamp() MINE", "clock_timestamp in a write"),
        ("UPDATE tasks SET updated_at = current_timestamp MINE", "current_timestamp in a write"),
        ("DELETE FROM tasks MINE AND random() < 2", "random in a write"),
        ("UPDATE tasks SET updated_at = greatest(now(), updated_at + interval '1 us') MINE", "updated_at in a write"),
        ("DELETE FROM tasks MINE AND extract(epoch FROM created_at) > 0", "created_at in a write"),
        ("DELETE FROM tasks MINE AND to_char(id, '9') > ''", "to_char in a write"),
        ("UPDATE tasks SET updated_at = CASE WHEN completed THEN now() ELSE updated_at END MINE", "now in a write"),
        ("UPDATE tasks SET updated_at = coalesce(now(), updated_at) MINE", "now in a write"),
        ("INSERTED DO UPDATE SET updated_at = now()", "now in a write"),
        ("INSERTED DO UPDATE SET title = excluded.title WHERE tasks.created_at < now()", "now in a write"),
        ("INSERTED DO UPDATE SET user_id = excluded.user_id", "user_id changes"),
        ("UPDATE tasks SET user_id = 'bob' MINE", "user_id changes"),
        ("WITH gone AS (\n DELETE FROM tasks MINE AND random() < 2\n)\nSELECT id FROM tasks MINE", "random in a write"),
    ],
)
def test_a_write_that_citus_rejects_is_noticed(text: str, complaint: str) -> None:
    assert complaint in refused(written_out(text))


@pytest.mark.parametrize(
    "text",
    [
        "SELECT id FROM tasks WHERE id = :'task_id'::bigint",
        "SELECT id FROM api_tasks WHERE id = :'task_id'::bigint",
        "SELECT id FROM tasks WHERE user_id = 'alice'",
        "SELECT id FROM tasks WHERE user_id >= :'user_id'",
        "SELECT id FROM tasks WHERE user_id = :'search'",
        "SELECT id FROM tasks WHERE user_id = :'user_id' OR id = 1",
        "SELECT id FROM tasks MINE UNION ALL SELECT id FROM tasks WHERE id = :'task_id'::bigint",
        "SELECT a.id FROM tasks AS a, tasks AS b WHERE a.user_id = :'user_id' AND a.id = b.id",
        "WITH gone AS (DELETE FROM tasks WHERE id = :'task_id'::bigint RETURNING id) SELECT id FROM tasks MINE",
        "UPDATE tasks SET completed = true WHERE id = :'task_id'::bigint",
        "INSERT INTO tasks (user_id, title) VALUES ('alice', :'user_id')",
        "INSERT INTO tasks (user_id, title) SELECT title, :'user_id' FROM (VALUES ('x')) AS v (title)",
    ],
)
def test_a_statement_that_is_not_bound_to_the_user_is_noticed(text: str, partitioned: psycopg.Connection, tmp_path: Path) -> None:
    file = tmp_path / "bad.sql"
    file.write_text(written_out(text))
    assert is_scattered(file, partitioned)


def faults(conn: psycopg.Connection) -> list[str]:
    """Return the reasons why Citus cannot distribute a table by user_id."""
    found = conn.execute("""
        WITH keys AS (
            SELECT attrelid, attnum FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
            WHERE attname = 'user_id' AND relkind = 'r' AND relnamespace = 'public'::regnamespace
        )
        SELECT indexrelid::regclass || ' is unique without user_id'
        FROM pg_index JOIN keys ON indrelid = attrelid WHERE indisunique AND attnum <> ALL (indkey)
        UNION ALL
        SELECT tgname || ' is a trigger' FROM pg_trigger JOIN keys ON tgrelid = attrelid WHERE NOT tgisinternal
        UNION ALL
        SELECT seqrelid::regclass || ' counts in ' || seqtypid::regtype
        FROM pg_sequence JOIN pg_depend ON objid = seqrelid JOIN keys ON refobjid = attrelid
        WHERE deptype IN ('a', 'i') AND seqtypid <> 'bigint'::regtype
    """)
    return [fault for (fault,) in found]


def test_the_schema_can_be_distributed_after_each_migration(empty_database: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as conn:
        for file in MIGRATIONS:
            for text in re.finditer(STATEMENT, file.read_bytes()):
                conn.execute(text[0])
            assert faults(conn) == [], file.stem


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("CREATE UNIQUE INDEX bad ON tasks (id)", "bad is unique without user_id"),
        ("CREATE TABLE bad (id bigint PRIMARY KEY, user_id text)", "bad_pkey is unique without user_id"),
        ("CREATE TABLE bad (id int GENERATED ALWAYS AS IDENTITY, user_id text)", "bad_id_seq counts in integer"),
        ("CREATE TABLE bad (id serial, user_id text)", "bad_id_seq counts in integer"),
        (
            "CREATE TRIGGER bad BEFORE UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "bad is a trigger",
        ),
    ],
)
def test_a_migration_that_citus_refuses_is_noticed(text: str, fault: str, database_url: str) -> None:
    with psycopg.connect(database_url) as conn:
        conn.execute(text)
        assert faults(conn) == [fault]
        conn.rollback()


@pytest.mark.parametrize(
    ("catalog", "mode"), [("", "force_generic_plan"), ("CREATE TABLE pg_dist_partition ()", "auto")], ids=["PostgreSQL", "Citus"]
)
def test_generic_plans_are_forced_except_on_citus(catalog: str, mode: str, empty_database: str) -> None:
    with psycopg.connect(empty_database) as conn:
        conn.execute(catalog)
        conn.execute(SETTINGS)
        assert conn.execute("SHOW plan_cache_mode").fetchone() == (mode,)


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        for statement in statements:
            conn.execute(statement)


@contextlib.contextmanager
def cluster() -> Iterator[list[str]]:
    """Create a database on the coordinator and on two or more worker nodes. Yield the URLs in this order."""
    server = urlsplit(os.environ.get("CITUS_TEST_URL") or pytest.skip("CITUS_TEST_URL is not set"))
    login = server.netloc.rpartition("@")[0]
    with psycopg.connect(server.geturl()) as conn:
        nodes = conn.execute("SELECT nodename, nodeport FROM pg_dist_node WHERE groupid > 0 ORDER BY groupid").fetchall()
        address = conn.info.host, conn.info.port
    assert len(nodes) >= 2, "CITUS_TEST_URL must name a database with two worker nodes: SELECT citus_add_node('host', 5432)"
    with new_database(server.geturl()) as coordinator, contextlib.ExitStack() as stack:
        database = urlsplit(coordinator).path
        urls = [coordinator]
        for host, port in nodes:
            worker = server._replace(netloc=f"{login}@{host}:{port}")
            run(worker.geturl(), f"CREATE DATABASE {database[1:]}")
            stack.callback(run, worker.geturl(), f"DROP DATABASE {database[1:]} WITH (FORCE)")
            urls.append(worker._replace(path=database).geturl())
        for url in urls:
            run(url, "CREATE EXTENSION citus")
        run(coordinator, "SELECT citus_set_coordinator_host('{}', {})".format(*address))
        run(coordinator, *(f"SELECT citus_add_node('{host}', {port})" for host, port in nodes))
        yield urls


DISTRIBUTE = (
    "SELECT create_distributed_table('tasks', 'user_id')",
    "SELECT truncate_local_data_after_distributing_table('tasks')",
    "SELECT create_reference_table('schema_migrations')",
)


@pytest.fixture(scope="module")
def citus() -> Iterator[list[str]]:
    """Yield the URLs of a cluster with distributed tasks. Task 1 was created before the distribution."""
    with cluster() as urls:
        migrate(urls[0])
        run(urls[0], "INSERT INTO tasks (user_id, title) VALUES ('alice', 'x')", *DISTRIBUTE)
        yield urls


@pytest.fixture(params=[0, 1], ids=["coordinator", "worker"])
def node(citus: list[str], request: pytest.FixtureRequest) -> str:
    """Return the URL of one node."""
    number: int = request.param
    return citus[number]


@pytest.mark.parametrize("file", BOUND, ids=lambda file: file.stem)
def test_citus_sends_a_statement_to_one_shard(file: Path, node: str) -> None:
    with psycopg.connect(node) as conn:
        plan = "\n".join(line for (line,) in execute(conn, file, parameters(file), b"EXPLAIN "))
    assert set(re.findall(r"Task Count: \d+", plan)) == {"Task Count: 1"}, plan


def test_tasks_from_before_the_distribution_are_read(node: str) -> None:
    with application(node) as app:
        alice = Client(in_process(app), "alice")
        assert [task["title"] for task in alice.list()] == [alice.call("GET", 1).json["title"]] == ["x"]


def test_the_api_works_on_citus(node: str) -> None:
    assert migrate(node) == []
    with application(node) as app:
        alice = Client(in_process(app), f"alice-{uuid.uuid4()}")
        for _ in range(8):  # PostgreSQL may choose another plan for a prepared statement after five executions
            task = alice.create()
            assert [alice.call(*operation).status for operation in every_operation(task["id"])] == [200, 201, 200, 200, 200, 204]
            kept = alice.create()
            for method, path in [("PUT", kept["id"]), ("PATCH", f"{kept['id']}/complete"), ("DELETE", kept["id"])]:
                assert alice.call(method, path, {}, headers={"If-Match": '"9"'}).status == 412
            times = [alice.call("PUT", kept["id"], {}).json["updated_at"] for _ in range(8)]
            assert times == sorted(set(times))
            for query in ("?limit=1&order=desc", "?sort=title&limit=1", "?search=milk"):
                assert alice.call("GET", query).status == 200
            once = {"Idempotency-Key": str(uuid.uuid4())}
            first, again = (alice.call("POST", "", {"title": "Buy milk"}, headers=once) for _ in range(2))
            assert (first.body, "Idempotency-Replayed" in first.headers) == (again.body, False)
            assert "Idempotency-Replayed" in again.headers
        assert all(task["user_id"] == alice.user_id for task in alice.list())


ANOTHER_TITLE_LIMIT = """ALTER DOMAIN task_title DROP CONSTRAINT task_title_length;
ALTER DOMAIN task_title ADD CONSTRAINT task_title_length CHECK (char_length(VALUE) <= 300);
DO $$ BEGIN PERFORM 1; END $$;
"""
AN_INDEX = """-- No transaction
DROP INDEX CONCURRENTLY IF EXISTS tasks_title;
CREATE INDEX CONCURRENTLY tasks_title ON tasks (user_id, title);
"""


def test_migrations_run_on_a_distributed_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first migration runs before the distribution, all others after it. Only the coordinator can and must migrate."""
    monkeypatch.setattr(migrations, "SQL", tmp_path)
    (tmp_path / "migrations").mkdir()
    with cluster() as (coordinator, worker, *_):
        shutil.copy(MIGRATIONS[0], tmp_path / "migrations")
        migrate(coordinator)
        run(coordinator, *DISTRIBUTE)
        assert migrate(worker) == []
        for file in MIGRATIONS[1:]:
            shutil.copy(file, tmp_path / "migrations")
        (tmp_path / "migrations/9001_title.sql").write_text(ANOTHER_TITLE_LIMIT)
        (tmp_path / "migrations/9002_index.sql").write_text(AN_INDEX)
        with pytest.raises(SystemExit, match="Connect to the coordinator"):
            migrate(worker)
        assert migrate(coordinator) == [*(file.stem for file in MIGRATIONS[1:]), "9001_title", "9002_index"]
        assert migrate(coordinator) == migrate(worker) == []
        run(worker, "INSERT INTO tasks (user_id, title) VALUES ('alice', repeat('x', 300))")
        with application(worker) as app:
            assert len(Client(in_process(app), "alice").list()) == 1
