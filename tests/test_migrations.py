import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import psycopg
import pytest

from tests.support.client import Client, application, in_process
from tests.support.load import every_operation
from tests.support.pgbouncer import PgBouncer
from todo_api import migrations
from todo_api.migrations import migrate
from todo_api.pool import Pool
from todo_api.statements import SQL


def test_it_works(empty_database: str) -> None:
    files = [path.stem for path in sorted((SQL / "migrations").glob("*.sql"))]
    assert migrate(empty_database) == files
    assert migrate(empty_database) == []
    with psycopg.connect(empty_database) as conn:
        assert conn.execute("SELECT version FROM schema_migrations ORDER BY version").fetchall() == [(file,) for file in files]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make migrate() read an empty folder instead of `sql/migrations/`. Return the folder."""
    monkeypatch.setattr(migrations, "SQL", tmp_path)
    (tmp_path / "migrations").mkdir()
    return tmp_path / "migrations"


@pytest.fixture
def with_an_index(folder: Path) -> list[str]:
    """Add a migration that cannot run in a transaction to the service's migrations. Return the names of all."""
    shutil.copytree(SQL / "migrations", folder, dirs_exist_ok=True)
    index = "CREATE INDEX CONCURRENTLY tasks_title ON tasks (user_id, title)"
    (folder / "9001_index.sql").write_text(f"-- No transaction\n{index};\nCOMMENT ON INDEX tasks_title IS 'x';\n")
    return sorted(path.stem for path in folder.iterdir())


def test_sixteen_at_once_apply_each_file_once(empty_database: str, with_an_index: list[str]) -> None:
    with ThreadPoolExecutor(16) as threads:
        applied = list(threads.map(migrate, [empty_database] * 16))
    assert sorted(chain(*applied)) == with_an_index


@pytest.mark.long
def test_sixteen_at_once_behind_a_pooler_apply_each_file_once(empty_database: str, with_an_index: list[str]) -> None:
    with PgBouncer(empty_database) as pooler, ThreadPoolExecutor(16) as threads:
        applied = list(threads.map(migrate, [pooler.url()] * 16))
    assert sorted(chain(*applied)) == with_an_index


@pytest.mark.parametrize("head", ["", "-- No transaction\n"], ids=["transaction", "no transaction"])
def test_statements_run_one_by_one(head: str, empty_database: str, folder: Path) -> None:
    """`current_query()` returns the text that the server received in one message."""
    texts = [
        r"""SELECT 'a;b', 'it''s;', '', E'\';', e'\\', E''';\'', date'2026-11-26', 'c:\'""",
        'SELECT 1 AS "x;""y;", 2 AS cost$',
        "SELECT $$a;b$$, $x$ $$;' $x$, $x1$;$x$;$x1$",
        "DO $do$ BEGIN PERFORM 'x;'; END $do$",
        "SELECT 1 -- it's; not the end\n + 1",
        "SELECT /* it's; \n $$ not the end */ 1",
    ]
    (folder / "0001_table.sql").write_text("CREATE TABLE received (text text)")
    record = "INSERT INTO received SELECT trim(current_query())"
    (folder / "0002_statements.sql").write_text(head + "".join(f"{text};\n{record};\n" for text in texts) + "-- the end;")
    assert migrate(empty_database) == ["0001_table", "0002_statements"]
    with psycopg.connect(empty_database) as conn:
        assert conn.execute("SELECT trim(text, E'\n') FROM received").fetchall() == [(record,)] * len(texts)


def test_a_file_that_fails_is_rolled_back(empty_database: str, folder: Path) -> None:
    (folder / "0001_good.sql").write_text("CREATE TABLE good (id int);")
    (folder / "0002_bad.sql").write_text("CREATE TABLE half (id int); CREATE TABLE bad (id nonsense);")
    (folder / "0003_next.sql").write_text("CREATE TABLE next (id int);")
    with pytest.raises(SystemExit, match=r"^todo_api cannot apply migration 0002_bad to NEON_DATABASE_URL \(.*nonsense") as ended:
        migrate(empty_database)
    assert "\n" not in str(ended.value)
    with psycopg.connect(empty_database) as conn:
        tables = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname"
        assert conn.execute(tables).fetchall() == [("good",), ("schema_migrations",)]
        assert conn.execute("SELECT version FROM schema_migrations").fetchall() == [("0001_good",)]


def test_a_lock_that_never_becomes_free_ends_the_start(
    empty_database: str, with_an_index: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_RETRY_SECONDS", 0)
    with psycopg.connect(empty_database) as conn:
        conn.execute("SELECT pg_advisory_xact_lock(%s)", [migrations.LOCK])
        with pytest.raises(SystemExit, match="lock timeout"):
            migrate(empty_database)
    assert migrate(empty_database) == with_an_index


@pytest.mark.parametrize("limit", ["idle_in_transaction_session_timeout", "transaction_timeout", "statement_timeout"])
def test_a_long_migration_outside_of_a_transaction_is_recorded(limit: str, empty_database: str, folder: Path) -> None:
    (folder / "0001_slow.sql").write_text("-- No transaction\nSELECT pg_sleep(0.5); SELECT pg_sleep(1.5);")
    with psycopg.connect(empty_database) as conn:
        if not conn.execute("SELECT 1 FROM pg_settings WHERE name = %s", [limit]).fetchone():
            pytest.skip(f"{limit} needs PostgreSQL 17")
        conn.execute(f"ALTER DATABASE {conn.info.dbname} SET {limit} = '1s'")
    assert migrate(empty_database) == ["0001_slow"]
    assert migrate(empty_database) == []


def test_a_newer_schema_is_left_alone(empty_database: str) -> None:
    migrate(empty_database)
    with psycopg.connect(empty_database) as conn:
        conn.execute("INSERT INTO schema_migrations (version) VALUES ('9999_from_the_future')")
    assert migrate(empty_database) == []


def test_each_column_of_tasks_has_a_comment(database_url: str) -> None:
    with psycopg.connect(database_url) as conn:
        columns = "SELECT attname, col_description(attrelid, attnum) FROM pg_attribute WHERE attrelid = 'tasks'::regclass"
        silent = [name for name, comment in conn.execute(f"{columns} AND attnum > 0 AND NOT attisdropped") if not comment]
    assert silent == []


@pytest.mark.parametrize(
    "migration",
    [
        "ALTER TABLE tasks ADD COLUMN mood text",
        "ALTER TABLE tasks ADD COLUMN mood text NOT NULL DEFAULT 'normal'",
        "ALTER TABLE tasks DROP COLUMN unused",
        "ALTER TABLE tasks ADD CHECK (title <> 'x') NOT VALID",
        "CREATE INDEX ON tasks (user_id, title)",
    ],
)
def test_prepared_statements_survive_a_migration(migration: str, empty_database: str) -> None:
    migrate(empty_database)
    with application(empty_database, DB_POOL_SIZE="1") as app:
        alice = Client(in_process(app), f"alice-{uuid.uuid4()}")
        pool: Pool = app.extensions["pool"]
        prepared = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%/* %'"
        answers = []
        for change in ("ALTER TABLE tasks ADD COLUMN unused text", migration):
            with psycopg.connect(empty_database) as conn:
                conn.execute(change)
            for _ in range(2):
                task_id = alice.create()["id"]
                assert alice.call("GET", "?sort=title&limit=1").status == alice.call("GET", "?order=desc&limit=1").status == 200
                answers.append([alice.call(*operation).status for operation in every_operation(task_id)])
            with pool.connection() as conn:
                assert conn.execute(prepared).fetchone() == (7,)
        assert answers == [[200, 201, 200, 200, 200, 204]] * 4
