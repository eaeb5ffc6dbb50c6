"""The statements of `sql/` as libpq takes them."""

import re
from pathlib import Path
from typing import NamedTuple

SQL = Path(__file__).resolve().parent.parent / "sql"
Row = tuple[bytes | None, ...]  # PostgreSQL's text of each column


class Statement(NamedTuple):
    name: bytes
    text: bytes  # with $1, $2, …
    parameters: list[str]  # their names


def statement(path: Path) -> Statement:
    """The file for libpq: psql's `:'name'` becomes `$1`, and the file's name follows the first word, for the database's log and
    statistics: PostgreSQL 18 drops a comment in front."""
    text = re.sub(r"^ *--.*\n", "", path.read_text(), flags=re.MULTILINE).strip()
    names = list(dict.fromkeys(re.findall(r":'(\w+)'", text)))
    text = re.sub(r":'(\w+)'", lambda match: f"${names.index(match[1]) + 1}", text)
    return Statement(path.stem.encode(), re.sub(r"^\w+", rf"\g<0> /* {path.stem} */", text).encode(), names)
