"""Reads the statements of `sql/`."""

import re
from pathlib import Path

SQL = Path(__file__).resolve().parent.parent / "sql"


def statement(path: Path) -> bytes:
    """The statement of a file for psycopg: `%(name)s` instead of psql's `:'name'`, and no comments.

    The file's name is added as a comment after the first word, for the database's log and statistics: PostgreSQL 18 drops a
    comment before that word.
    """
    text = re.sub(r"^ *--.*\n", "", path.read_text(), flags=re.MULTILINE).strip().replace("%", "%%")
    text = re.sub(r":'(\w+)'", r"%(\1)s", text)
    return re.sub(r"^\w+", rf"\g<0> /* {path.stem} */", text).encode()
