"""Runs PgBouncer in front of a database."""

from __future__ import annotations

import contextlib
import signal
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from dev.postgres import unprivileged
from tests.support.server import Server, executable

SERVER_CONNECTIONS = 5


class PgBouncer(Server):
    """PgBouncer in transaction mode in front of a database. It runs inside a `with` block.

    A statement waits up to two minutes for a server connection, which is PgBouncer's default. Server connections are used in
    turn, so that each client uses all of them. PgBouncer retries a server that was down after one second instead of 15.
    """

    stop_signal = signal.SIGKILL  # new versions wait for clients after SIGTERM, and a process may inherit SIGQUIT as ignored

    def __init__(self, database_url: str) -> None:
        super().__init__()
        target = conninfo_to_dict(database_url)
        self.user, self.database = target.get("user", "postgres"), str(target["dbname"])
        self.target = " ".join(f"{name}={target[name]}" for name in ("host", "port", "user", "password") if name in target)
        self.options = {"cwd": "/", **unprivileged()}

    def configure(self) -> None:
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            "default_pool_size": SERVER_CONNECTIONS,
            "server_round_robin": 1,
            "server_login_retry": 1,
        }
        lines = [f"{name} = {value}" for name, value in settings.items()]
        file = self.home / "pgbouncer.ini"
        file.write_text("\n".join(["[databases]", f"* = {self.target}", "[pgbouncer]", *lines, ""]))
        self.command = [executable("pgbouncer"), str(file)]

    def responds(self) -> bool:
        """Return whether it accepts connections to its own admin database, which needs no PostgreSQL server."""
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(self.url("pgbouncer")).close()
            return True
        return False

    def url(self, database: str = "") -> str:
        return f"postgresql://{self.user}@127.0.0.1:{self.port}/{database or self.database}"

    def on_each_server(self, query: str) -> list[tuple[Any, ...]]:
        """Run the query on every server connection at the same time. Return the first row of each result."""
        with contextlib.ExitStack() as stack:
            clients = [
                stack.enter_context(psycopg.connect(self.url(), prepare_threshold=None)) for _ in range(SERVER_CONNECTIONS)
            ]
            return [row for client in clients for row in client.execute(query).fetchmany(1)]
