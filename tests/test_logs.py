import json
import logging
import sys

import pytest

from tests.support.client import Client
from todo_api.logs import JsonFormatter


def test_a_record_is_one_json_object_on_one_line() -> None:
    record = logging.makeLogRecord(
        {
            "name": "todo_api.auth",
            "levelname": "WARNING",
            "msg": "unauthorized",
            "path": '/api/a\r\n{"level": "FORGED"}\u2028\ud800',
        }
    )
    text = JsonFormatter().format(record)
    assert text.isascii()
    assert "\n" not in text
    assert "\r" not in text
    fields = json.loads(text)
    assert (fields["logger"], fields["level"], fields["message"]) == ("todo_api.auth", "WARNING", "unauthorized")
    assert fields["path"].startswith("/api/a\r\n")
    assert fields["time"].endswith("+00:00")


def test_a_record_names_its_request(alice: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.setFormatter(JsonFormatter())
    alice.call("GET", headers={"Authorization": "", "X-Request-Id": "mine"})
    assert json.loads(caplog.text)["request_id"] == "mine"


def test_an_exception_is_named_without_its_text() -> None:
    try:
        raise ValueError("hunter2")
    except ValueError:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": sys.exc_info()})
    text = JsonFormatter().format(record)
    assert json.loads(text)["error"] == "ValueError"
    assert "hunter2" not in text
    assert "Traceback" not in text
