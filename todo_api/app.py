"""Overrides of undocumented methods of Flask, werkzeug and psycopg. They make a request faster or limit its time.

docs/performance.md lists each of them, what it depends on, and the test that compares it with the original method.
"""

import contextlib
import time
from typing import Any, cast

import psycopg
from flask import Flask, Request, Response
from gevent.socket import wait_read, wait_readwrite
from psycopg.abc import RV, PQGen
from psycopg.waiting import Ready, Wait
from werkzeug.datastructures import Headers
from werkzeug.routing import MapAdapter


class ApiResponse(Response):
    def get_wsgi_headers(self, environ: dict[str, Any]) -> Headers:
        """Skip werkzeug's corrections for a success with a body: Content-Length is set, and Location is already a valid URL."""
        if self.response and self.status_code < 300:
            return self.headers
        return super().get_wsgi_headers(environ)


class TodoApp(Flask):
    response_class = ApiResponse

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Match by path alone: no route depends on the host. If SERVER_NAME or TRUSTED_HOSTS is set, Flask's own method runs."""
        if request is None or self.config["SERVER_NAME"] or self.config["TRUSTED_HOSTS"]:
            return super().create_url_adapter(request)
        server_name = subdomain = ""
        return MapAdapter(self.url_map, server_name, request.root_path, subdomain, request.scheme, request.path, request.method)


class ResponseTimeout(psycopg.OperationalError):
    """The server did not respond in time."""


class GeventConnection(psycopg.Connection[tuple[Any, ...]]):
    """Waits for the server with gevent instead of `select`, and only for a limited time.

    Attributes:
        response_timeout: seconds to wait for the response to a statement. Behind a pooler the server itself has no time limit.
    """

    response_timeout: float

    def wait(self, gen: PQGen[RV], interval: float = 0, timeout: float | None = None) -> RV:  # noqa: ARG002, for LISTEN only
        """Run a generator of psycopg until it returns its result. After the timeout, cancel the statement and disconnect.

        Raises:
            ResponseTimeout
        """
        give_up = time.monotonic() + self.response_timeout
        try:
            wanted = next(gen)
            while True:
                wait_for = wait_read if wanted == Wait.R else wait_readwrite
                wait_for(self.pgconn.socket, max(0, give_up - time.monotonic()))
                wanted = gen.send(Ready.RW)  # a wrong "ready" does no harm: psycopg's reads and writes never block
        except StopIteration as stop:
            return cast(RV, stop.value)
        except TimeoutError:
            with contextlib.suppress(psycopg.Error):
                self.cancel_safe(timeout=1)
            self.close()
            raise ResponseTimeout("the server did not respond in time") from None

    def check_not_closed(self) -> None:
        """Raise psycopg.OperationalError if the server has closed the connection. This needs no round trip."""
        # The server sends a last message before it closes the connection. libpq reads that first, and fails at the next read.
        self.pgconn.consume_input()
        self.pgconn.consume_input()
