"""The statements of `sql/` with example values for their parameters."""

import re
from pathlib import Path

import psycopg

from todo_api.statements import SQL, read_statement

FILES = sorted(SQL.glob("*.sql"))
BOUND = [file for file in FILES if file.stem != "ready"]
VALUES = {
    "user_id": "alice",
    "task_id": "1",
    "body": '{"title": "x"}',
    "if_match": "*",
    "flip": "false",
    "attempt": "1",
    "idempotency_key": "k",
    "status": "all",
    "search": "",
    "sort": "title",
    "order": "asc",
    "after": "",
    "offset": "0",
    "limit": "",
}


def parameters(file: Path) -> dict[str, str]:
    """Return a value for each parameter of the file's statement."""
    return {name: VALUES[name] for name in re.findall(r":'(\w+)'", file.read_text())}


def execute(
    conn: psycopg.Connection, file: Path, values: dict[str, str], before: bytes = b"", *, prepare: bool = False
) -> psycopg.Cursor:
    """Run the statement of the file. `before` is put in front of it, for example EXPLAIN."""
    text, names = read_statement(file)
    return psycopg.RawCursor(conn).execute(before + text, [values[name] for name in names], prepare=prepare)
