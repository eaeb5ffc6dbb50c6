"""Overrides of Flask, werkzeug and psycopg that make a request faster or limit its time, by undocumented APIs.

docs/performance.md lists each of them, what it depends on, and the test that compares it with the original method.
"""

import time
from collections.abc import Mapping
from typing import Any

import psycopg
from flask import Flask, Request, Response
from gevent.socket import wait_read, wait_write
from psycopg.abc import RV, PQGen
from psycopg.adapt import Transformer
from psycopg.errors import FeatureNotSupported, error_from_result
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult
from werkzeug.datastructures import Headers
from werkzeug.routing import MapAdapter

from todo_api.connection import Connection
from todo_api.statements import Statement

CHECK_AFTER_IDLE_SECONDS = 30


class ApiResponse(Response):
    def get_wsgi_headers(self, environ: dict[str, Any]) -> Headers:
        """Skip werkzeug's corrections for a success with a body: Content-Length is set, and Location is already a valid URL."""
        if self.response and self.status_code < 300:
            return self.headers
        return super().get_wsgi_headers(environ)


class TodoApp(Flask):
    response_class = ApiResponse

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Match by path alone: no route depends on the host. Settings that concern the host get Flask's own method."""
        if request is None or self.config["SERVER_NAME"] or self.config["TRUSTED_HOSTS"]:
            return super().create_url_adapter(request)
        return MapAdapter(self.url_map, "", request.root_path, "", request.scheme, request.path, request.method)


class FastConnection(Connection):
    """Runs statements with libpq's functions and waits with gevent's. psycopg's cursors would do the same more slowly."""

    def configure(self, prepare: str) -> None:
        super().configure(prepare)
        self.statement_names: dict[bytes, bytes] = {}  # of the prepared statements, by their text
        self.transformer = Transformer(self)

    def fetch_row(self, statement: Statement, values: Mapping[str, str]) -> tuple[Any, ...] | None:
        """Run the statement and return its first row, or None if there is none."""
        arguments = [values[name].encode() for name in statement.parameters]
        if b"\0" in b"".join(arguments):
            raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
        try:
            result = self._run(statement.text, arguments)
        except FeatureNotSupported:
            if not self.statement_names:
                raise
            self.execute("DEALLOCATE ALL")  # a migration has changed a result type: the statement must be prepared again
            self.statement_names.clear()
            result = self._run(statement.text, arguments)
        self.transformer.set_pgresult(result)
        return self.transformer.load_row(0, tuple) if result.ntuples else None

    def _run(self, text: bytes, arguments: list[bytes]) -> PGresult:
        if not self.prepares:
            self.pgconn.send_query_params(text, arguments)
            return self._receive()
        if text not in self.statement_names:
            name = b"statement_%d" % len(self.statement_names)
            self.pgconn.send_prepare(name, text)
            self._receive()
            self.statement_names[text] = name
        self.pgconn.send_query_prepared(self.statement_names[text], arguments)
        return self._receive()

    def _receive(self) -> PGresult:
        """Return the first result. Raise the error of any result: a failed commit sends its error as a second result."""
        give_up, results, lost = time.monotonic() + self.deadline, [], None
        try:
            while self.pgconn.flush():
                wait_write(self.pgconn.socket, max(0, give_up - time.monotonic()))
            while True:
                while self.pgconn.is_busy():
                    wait_read(self.pgconn.socket, max(0, give_up - time.monotonic()))
                    self.pgconn.consume_input()
                if not (result := self.pgconn.get_result()):
                    break
                results.append(result)
        except TimeoutError:
            self.abandon()
            raise psycopg.OperationalError("the server did not respond in time") from None
        except psycopg.OperationalError as error:
            lost = error
        for result in results:
            if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
                raise error_from_result(result)
        if lost:  # without a reason from the server; a result without its commit counts for nothing
            raise lost
        return results[0]

    def check_alive(self) -> None:
        """Raise psycopg.OperationalError if the server has closed the connection."""
        self.pgconn.consume_input()  # reads what the server sent when it closed the connection; no round trip
        self.pgconn.consume_input()  # fails if that was the end
        if time.monotonic() > self.last_used + CHECK_AFTER_IDLE_SECONDS:
            self.execute("")

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for the server, but not longer than the deadline: behind a pooler the server itself has no time limit."""
        try:
            return super().wait(gen, interval, self.deadline if timeout is None else timeout)
        except psycopg.OperationalError:
            if self.info.transaction_status.name == "ACTIVE":
                self.abandon()
            raise
