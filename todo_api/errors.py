"""Turns every failure into JSON, `{"detail": …}`, and into a log record."""

import logging
import traceback
from typing import Any

import psycopg
from flask import Flask, current_app, g, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, InternalServerError

from todo_api.config import Config
from todo_api.outage import OutageLog

log = logging.getLogger(__name__)

# InternalError: on Citus, a commit failed on a node. The errors of psycopg_pool are OperationalErrors.
DATABASE_ERRORS = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)


def init_app(app: Flask, config: Config) -> None:
    app.extensions["outage_log"] = OutageLog(config.database_url)
    app.register_error_handler(HTTPException, http_error)
    for database_error_class in DATABASE_ERRORS:
        app.register_error_handler(database_error_class, database_error)
    app.register_error_handler(Exception, unhandled_error)
    app.register_error_handler(InternalServerError, unhandled_error)  # Flask wraps the exception of an after_request function


def database_error(error: psycopg.Error) -> ResponseReturnValue:
    """The database is unreachable or too slow, or no connection is free."""
    current_app.extensions["outage_log"].record_failure(error)
    return {"detail": "Service temporarily unavailable"}, 503, {"Retry-After": "1"}


def http_error(error: HTTPException) -> ResponseReturnValue:
    """Respond to `abort()` and to werkzeug's own errors. If the description is a list, it holds validation errors."""
    detail: Any = error.name if error.description == type(error).description else error.description
    g.detail = detail  # metrics.py needs it, and a response to HEAD has no body to read it from
    body = {"detail": detail}
    if isinstance(detail, list):
        # Frontends print `data.error || data.detail`, and crash on a list.
        body["error"] = "; ".join(f"{problem['loc'][-1]}: {problem['msg']}" for problem in detail)
    return body, error.code or 500, {**dict(error.get_headers()), "Content-Type": "application/json"}


def unhandled_error(error: BaseException) -> ResponseReturnValue:
    """Respond to a bug. The log gets its type and place but not its message, which may quote a value of the request."""
    error = getattr(error, "original_exception", None) or error
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    fields = {"error": type(error).__name__, "sqlstate": getattr(error, "sqlstate", None), "path": request.path}
    log.error("unhandled error", extra={**fields, "frames": frames})
    return {"detail": "Internal server error"}, 500
