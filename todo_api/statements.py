"""Reads the statements of `sql/`."""

import re
from pathlib import Path
from typing import NamedTuple

SQL = Path(__file__).resolve().parent.parent / "sql"


class Statement(NamedTuple):
    text: bytes  # with $1, $2, …
    parameters: list[str]  # their names


def read_statement(path: Path) -> Statement:
    """Read a file: psql's `:'name'` becomes `$1`, and comments are left out.

    The file's name is added as a comment after the first word, for the database's log and statistics: PostgreSQL 18 drops a
    comment before that word.
    """
    text = re.sub(r"^ *--.*\n", "", path.read_text("utf-8"), flags=re.MULTILINE).strip()
    names = list(dict.fromkeys(re.findall(r":'(\w+)'", text)))
    text = re.sub(r":'(\w+)'", lambda match: f"${names.index(match[1]) + 1}", text)
    return Statement(re.sub(r"^\w+", rf"\g<0> /* {path.stem} */", text).encode(), names)
