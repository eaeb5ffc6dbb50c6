"""One JSON object a line on stdout."""

import datetime
import json
import logging
from logging.config import dictConfig
from typing import Any

from flask import g, has_request_context, request
from gunicorn.config import Config as Settings
from gunicorn.glogging import Logger

STANDARD = vars(logging.makeLogRecord({})).keys() | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message, and what the call put into `extra`. JSON escapes line breaks: no value can forge a record."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0]:
            fields["error"] = record.exc_info[0].__name__
        if has_request_context():
            fields |= {"request_id": g.get("request_id"), "method": request.method}
        fields |= {name: value for name, value in vars(record).items() if name not in STANDARD}
        return json.dumps(fields, default=str)


class ServerLogger(Logger):
    """gunicorn's logger: its records, the application's and the libraries' have one format and go to stdout."""

    def setup(self, cfg: Settings) -> None:
        super().setup(cfg)
        dictConfig(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "formatters": {"json": {"()": JsonFormatter}},
                "handlers": {"stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "json"}},
                "root": {"level": logging.getLevelName(self.loglevel), "handlers": ["stdout"]},
                "loggers": {
                    "gunicorn.error": {"propagate": True},
                    # psycopg_pool warns about each attempt to connect; errors.py logs each request that failed.
                    "psycopg.pool": {"level": "ERROR"},
                },
            }
        )
