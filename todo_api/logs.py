"""One JSON object a line on stdout."""

import datetime
import json
import logging
from typing import Any

from flask import g, has_request_context, request

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
