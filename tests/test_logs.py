import json
import logging
import re
import sys
from typing import Any

import pytest

from tests.support.client import Client
from todo_api.logs import ConsoleFormatter, JsonFormatter

FORGED = '/api/a\r\n{"level": "FORGED"}\u2028\ud800\x1b[2J'


def record(**fields: Any) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "todo_api.auth", "levelname": "WARNING", "msg": "unauthorized", **fields})


def failed() -> logging.LogRecord:
    try:
        raise ValueError("hunter2")
    except ValueError:
        return record(exc_info=sys.exc_info())


def test_a_record_is_one_json_object_on_one_line() -> None:
    text = JsonFormatter().format(record(path=FORGED))
    assert text.isascii()
    assert "\n" not in text
    assert "\r" not in text
    fields = json.loads(text)
    assert (fields["logger"], fields["level"], fields["message"]) == ("todo_api.auth", "WARNING", "unauthorized")
    assert fields["path"].startswith("/api/a\r\n")
    assert fields["time"].endswith("+00:00")


def test_on_a_terminal_a_record_is_one_coloured_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = ConsoleFormatter().format(
        record(status=401, reason="no bearer token", route="/api/<user_id>/tasks", user=None, settings={"DEBUG": True})
    )
    line = r"\d\d:\d\d:\d\d \033\[33mWARNING \033\[0m unauthorized "
    assert re.match(line, text)
    assert text.endswith('\033[2mstatus=401 reason="no bearer token" route=/api/<user_id>/tasks user=None\033[0m')


def test_no_color_prints_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = ConsoleFormatter().format(record(status=401))
    assert re.fullmatch(r"\d\d:\d\d:\d\d WARNING  unauthorized status=401", text)


def test_no_value_can_forge_a_line_or_control_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = ConsoleFormatter().format(record(msg=f"unauthorized {FORGED}", path=FORGED))
    assert text.isprintable()
    assert text.count(r"\r\n") == 2


@pytest.mark.parametrize("formatter", [JsonFormatter(), ConsoleFormatter()])
def test_a_record_names_its_request(alice: Client, caplog: pytest.LogCaptureFixture, formatter: logging.Formatter) -> None:
    caplog.handler.setFormatter(formatter)
    alice.call("GET", headers={"Authorization": "", "X-Request-Id": "mine"})
    assert re.search(r'request_id(": "|=)mine', caplog.text)


@pytest.mark.parametrize("formatter", [JsonFormatter(), ConsoleFormatter()])
def test_an_exception_is_named_without_its_text(formatter: logging.Formatter) -> None:
    text = formatter.format(failed())
    assert "ValueError" in text
    assert "hunter2" not in text
    assert "Traceback" not in text
