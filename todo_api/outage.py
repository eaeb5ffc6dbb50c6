"""Logs why the database is unavailable: once when an outage begins, a summary every 10 s, and once when it ends."""

import logging
import os
from time import monotonic
from typing import ClassVar

import psycopg
from flask import request
from psycopg_pool import PoolTimeout, TooManyRequests

from todo_api.app import ResponseTimeout
from todo_api.database_url import host_and_port

SUMMARY_SECONDS = 10
log = logging.getLogger(__name__)


class OutageLog:
    """Logs the outages of one process: the times in which it cannot use the database.

    Attributes:
        connect_error: the error of this process's last attempt to connect, or None. The pool itself raises only PoolTimeout.
        began: the monotonic time of the first failed request; 0 while the database is available.
    """

    connect_error: ClassVar[psycopg.Error | None] = None

    def __init__(self, database_url: str) -> None:
        self.server = host_and_port(database_url)
        self.began = self.reported = 0.0
        self.failed_requests = 0

    def record_failure(self, error: psycopg.Error) -> None:
        """Count a failed request towards the outage, or log it by itself if other requests can still use the database."""
        cause, is_outage = self._cause(error)
        fields = {"error": type(cause).__name__, "sqlstate": cause.sqlstate, "cause": server_message(cause)}
        now = monotonic()
        self.failed_requests += is_outage
        if not is_outage:
            log.warning("database error", extra={**fields, "path": request.path})
        elif not self.began:
            self.began = self.reported = now
            log.warning("database unavailable", extra={**fields, **self.server, "pid": os.getpid()})
        elif now >= self.reported + SUMMARY_SECONDS:
            self.reported = now
            log.warning("database still unavailable", extra={**fields, **self._totals()})

    def end(self) -> None:
        log.warning("database available again", extra=self._totals())
        self.began, self.failed_requests = 0.0, 0

    def _cause(self, error: psycopg.Error) -> tuple[psycopg.Error, bool]:
        """Return the error to log, and whether it means that no request can use the database."""
        if isinstance(error, PoolTimeout):
            # Limits admits only as many requests as there are connections. So the pool had room, but connecting took too long.
            return self.connect_error or PoolTimeout("a new connection was not ready in time"), True
        if isinstance(error, TooManyRequests | ResponseTimeout):
            return error, self.began > 0  # a part of an outage if one has begun, otherwise only too much load
        cause = error.__cause__ if isinstance(error.__cause__, psycopg.Error) else error
        # Without an SQLSTATE, the connection was lost. 57P: the server shuts down or starts.
        return cause, cause.sqlstate is None or cause.sqlstate.startswith("57P")

    def _totals(self) -> dict[str, object]:
        seconds = round(monotonic() - self.began, 1)
        return {**self.server, "pid": os.getpid(), "failed_requests": self.failed_requests, "seconds": seconds}


def server_message(error: psycopg.Error) -> str:
    """Return the message and the hint of the server or of libpq in one line. DETAIL is left out, because it may quote a row."""
    return " ".join(f"{error.diag.message_primary or error} {error.diag.message_hint or ''}".split())
