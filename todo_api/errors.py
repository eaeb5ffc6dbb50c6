"""Every failure as JSON: `{"detail": …}`."""

import logging
import traceback
from typing import Any

import psycopg
from flask import Flask, g, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from todo_api.config import Config

log = logging.getLogger(__name__)


def init_app(app: Flask, _: Config) -> None:
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(psycopg.OperationalError, database_lost)
    app.register_error_handler(psycopg.InterfaceError, database_lost)
    app.register_error_handler(psycopg.InternalError, database_lost)  # Citus has one when a commit fails on a worker node
    app.register_error_handler(Exception, defect)


def http_error(error: HTTPException) -> ResponseReturnValue:
    """`abort()` and werkzeug's own errors. A list as the description is one of validation errors, as contract.py makes them."""
    detail: Any = error.name if error.description == type(error).description else error.description
    g.detail = detail  # an answer to HEAD has no body to read it from
    body = {"detail": detail}
    if isinstance(detail, list):
        # Frontends print `data.error || data.detail`, and crash on a list.
        body["error"] = "; ".join(f"{problem['loc'][-1]}: {problem['msg']}" for problem in detail)
    return body, error.code or 500, {**dict(error.get_headers()), "Content-Type": "application/json"}


def database_lost(error: psycopg.Error) -> ResponseReturnValue:
    """The database cannot be reached, is too slow, or has no free connection: psycopg_pool's errors are OperationalErrors."""
    log.warning("database unavailable", extra=_facts(error))
    return {"detail": "Service temporarily unavailable"}, 503, {"Retry-After": "1"}


def defect(error: Exception) -> ResponseReturnValue:
    """A bug. The log gets its type and place, not its text: that may quote a value of the request."""
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    log.error("defect", extra={**_facts(error), "frames": frames})
    return {"detail": "Internal server error"}, 500


def _facts(error: Exception) -> dict[str, object]:
    return {"error": type(error).__name__, "sqlstate": getattr(error, "sqlstate", None), "path": request.path}
