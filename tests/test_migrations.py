from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from todo_api import db, migrations
from todo_api.migrations import migrate


def test_it_works(empty_database: str) -> None:
    files = [path.stem for path in sorted((db.SQL / "migrations").glob("*.sql"))]
    assert migrate(empty_database) == files
    assert migrate(empty_database) == []
    with psycopg.connect(empty_database) as conn:
        assert conn.execute("SELECT version FROM schema_migrations ORDER BY version").fetchall() == [(file,) for file in files]


def test_sixteen_at_once_apply_each_file_once(empty_database: str) -> None:
    with ThreadPoolExecutor(16) as threads:
        applied = list(threads.map(migrate, [empty_database] * 16))
    assert sorted(map(len, applied))[:15] == [0] * 15
    assert len(max(applied)) > 0


def test_a_file_that_fails_leaves_nothing(empty_database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations/0001_good.sql").write_text("CREATE TABLE good (id int);")
    (tmp_path / "migrations/0002_bad.sql").write_text("CREATE TABLE bad (id nonsense);")
    monkeypatch.setattr(migrations, "SQL", tmp_path)
    with pytest.raises(SystemExit) as ended:
        migrate(empty_database)
    assert "nonsense" in str(ended.value)
    assert "\n" not in str(ended.value)
    with psycopg.connect(empty_database) as conn:
        assert conn.execute("SELECT to_regclass('good'), to_regclass('schema_migrations')").fetchone() == (None, None)


def test_a_newer_schema_is_left_alone(empty_database: str) -> None:
    migrate(empty_database)
    with psycopg.connect(empty_database) as conn:
        conn.execute("INSERT INTO schema_migrations (version) VALUES ('9999_from_the_future')")
    assert migrate(empty_database) == []


def test_the_table_explains_itself(database_url: str) -> None:
    with psycopg.connect(database_url) as conn:
        columns = "SELECT attname, col_description(attrelid, attnum) FROM pg_attribute WHERE attrelid = 'tasks'::regclass"
        silent = [name for name, comment in conn.execute(f"{columns} AND attnum > 0") if not comment]
    assert silent == []
