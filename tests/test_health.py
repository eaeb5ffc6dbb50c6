import json
from datetime import UTC, datetime, timedelta

from tests.support.client import Client, application, in_process
from todo_api import __version__
from todo_api.validation import DOCUMENT


def test_health_needs_no_token(alice: Client) -> None:
    answer = alice.send("GET", "/health", {}, None)
    assert answer.status == 200
    assert list(answer.json) == ["status", "timestamp", "version"]
    assert answer.json["version"] == __version__
    assert answer.json["status"] == "healthy"
    assert abs(datetime.now(UTC) - datetime.fromisoformat(answer.json["timestamp"])) < timedelta(minutes=1)
    assert answer.headers["Cache-Control"] == "no-store"


def test_ready_asks_the_database(alice: Client) -> None:
    answer = alice.send("GET", "/ready", {}, None)
    assert (answer.status, answer.json) == (200, {"status": "ready"})
    with application("postgresql://127.0.0.1:1/none?connect_timeout=1") as app:
        answer = in_process(app)("GET", "/ready", {}, None)
    assert (answer.status, answer.json) == (503, {"detail": "Service temporarily unavailable"})
    assert answer.headers["Retry-After"]


def test_the_document_is_served(alice: Client) -> None:
    assert alice.send("GET", "/openapi.json", {}, None).json == json.loads(DOCUMENT.read_bytes())


def test_the_document_can_be_cached(alice: Client) -> None:
    answer = alice.send("GET", "/openapi.json", {}, None)
    assert alice.send("GET", "/openapi.json", {"If-None-Match": answer.headers["ETag"]}, None).status == 304
