"""Every failure as JSON: `{"detail": …}`."""

import logging
import traceback
from http import HTTPStatus
from typing import Any

import psycopg
from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException, InternalServerError, ServiceUnavailable

from todo_api.config import Config

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 1
KEPT_HEADERS = ("Allow", "Retry-After")


def init_app(app: Flask, _: Config) -> None:
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(psycopg.OperationalError, database_lost)
    app.register_error_handler(psycopg.InterfaceError, database_lost)
    app.register_error_handler(Exception, defect)


def http_error(error: HTTPException) -> Response:
    """`abort()` and werkzeug's own errors. A list as the description is one of validation errors, as contract.py makes them."""
    status = HTTPStatus(error.code or 500)
    detail: Any = error.description
    if detail == type(error).description:
        detail = status.phrase
    body = {"detail": detail}
    if isinstance(detail, list):
        # Frontends print `data.error || data.detail`, and crash on a list.
        body["error"] = "; ".join(f"{problem['loc'][-1]}: {problem['msg']}" for problem in detail)
    response = jsonify(body)
    response.status_code = status
    response.headers.extend((name, value) for name, value in error.get_headers() if name in KEPT_HEADERS)
    return response


def database_lost(error: psycopg.Error) -> Response:
    """The database cannot be reached, is too slow, or has no free connection: psycopg_pool's errors are OperationalErrors."""
    _log(logging.WARNING, "database unavailable", error)
    return http_error(ServiceUnavailable("Service temporarily unavailable", retry_after=RETRY_AFTER_SECONDS))


def defect(error: Exception) -> Response:
    """A bug. The log gets its type and place, not its text: that may quote a value of the request."""
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    _log(logging.ERROR, "defect", error, frames=frames)
    return http_error(InternalServerError("Internal server error"))


def _log(level: int, message: str, error: Exception, **more: object) -> None:
    sqlstate = getattr(error, "sqlstate", None)
    fields = {"error": type(error).__name__, "sqlstate": sqlstate, "method": request.method, "path": request.path}
    log.log(level, message, extra={**fields, **more})
