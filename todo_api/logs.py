"""Log records: readable lines on a terminal, otherwise one JSON object per line. Both go to stdout. The access log."""

import datetime
import json
import logging
import os
import re
import sys
import time
from logging.config import dictConfig
from typing import Any

from flask import Flask, Response, g, has_request_context, request
from gunicorn.config import Config as GunicornConfig
from gunicorn.glogging import Logger

from todo_api.config import Config

access_log = logging.getLogger("todo_api.access")

STANDARD = vars(logging.makeLogRecord({})).keys() | {"message", "asctime", "taskName"}
COLOURS = {"DEBUG": 36, "INFO": 32, "WARNING": 33, "ERROR": 31, "CRITICAL": 31}  # ANSI: cyan, green, yellow, red
PLAIN = re.compile(r"[\w./:@<>-]+", re.ASCII)  # needs no quotes


def init_app(app: Flask, config: Config) -> None:
    if config.access_log:
        app.after_request(log_request)


def log_request(response: Response) -> Response:
    """Log a request with its route, not its path, so that the records can be grouped."""
    seconds, database = time.perf_counter() - g.started, g.get("database_seconds", 0)
    fields = {"user": g.get("user_id"), "route": request.url_rule and request.url_rule.rule, "status": response.status_code}
    times = {"milliseconds": round(seconds * 1000, 3), "database_milliseconds": round(database * 1000, 3)}
    access_log.info("answered", extra={**fields, **times})
    return response


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """The `extra` of the call, the type of an exception without its text, and the method and id of the request."""
    fields = {name: value for name, value in vars(record).items() if name not in STANDARD}
    if record.exc_info and record.exc_info[0]:
        fields["error"] = record.exc_info[0].__name__
    return fields | ({"method": request.method, "request_id": g.get("request_id")} if has_request_context() else {})


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message and fields. JSON escapes line breaks, so that no value can forge a record."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        head = {"time": at, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        return json.dumps(head | _fields(record), default=str)


class ConsoleFormatter(logging.Formatter):
    """Local time, level, message and fields, coloured unless NO_COLOR is set. No value can forge a line or a terminal command."""

    def format(self, record: logging.LogRecord) -> str:
        message = "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in record.getMessage())
        items = [(key, value) for key, value in _fields(record).items() if not isinstance(value, dict)]  # a dict is too long
        fields = " ".join(f"{key}={value if PLAIN.fullmatch(str(value)) else json.dumps(str(value))}" for key, value in items)
        at = f"{datetime.datetime.fromtimestamp(record.created):%H:%M:%S}"
        if os.environ.get("NO_COLOR"):  # https://no-color.org
            return f"{at} {record.levelname:<8} {message} {fields}".rstrip()
        return f"{at} \033[{COLOURS.get(record.levelname, 0)}m{record.levelname:<8}\033[0m {message} \033[2m{fields}\033[0m"


class ServerLogger(Logger):
    """gunicorn's logger. All records have one format: gunicorn's, the application's and the libraries'."""

    def setup(self, cfg: GunicornConfig) -> None:
        super().setup(cfg)
        settings: dict[str, Any] = {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"all": {"()": ConsoleFormatter if sys.stdout.isatty() else JsonFormatter}},
            "handlers": {"stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "all"}},
            "root": {"level": self.loglevel, "handlers": ["stdout"]},
            "loggers": {
                "gunicorn.error": {"propagate": True},  # dictConfig removes gunicorn's own handlers from this logger
                "psycopg.pool": {"level": "ERROR"},  # it warns about each attempt to connect; outage.py logs the cause
            },
        }
        dictConfig(settings)
