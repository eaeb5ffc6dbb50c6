"""`make psql` opens psql on NEON_DATABASE_URL from the environment or `.env`, or else on the database of the running demo."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from dev.demo import DATABASE, data
from dev.postgres import Postgres, psql
from dev.settings import load_settings
from todo_api.database_url import normalise


def main() -> None:
    load_settings()
    url = os.environ.get("NEON_DATABASE_URL")
    try:
        options = conninfo_to_dict(normalise(url) if url else _running())
    except ValueError as error:
        raise SystemExit(f"NEON_DATABASE_URL {error}") from None
    if password := options.pop("password", None):  # other users can read a process's arguments, but not its environment
        os.environ["PGPASSWORD"] = str(password)
    os.execv(program := psql(), [program, make_conninfo("", **options), *sys.argv[1:]])  # noqa: S606


def _running() -> str:
    postgres = Postgres(data())
    try:
        # The fifth line of this file contains the folder of the socket.
        postgres.socket = Path((postgres.data / "postmaster.pid").read_text().splitlines()[4])
        psycopg.connect(postgres.url(DATABASE)).close()
    except (OSError, psycopg.OperationalError):
        raise SystemExit("no database is running: start one with make run, or set NEON_DATABASE_URL") from None
    return postgres.url(DATABASE)


if __name__ == "__main__":
    main()
