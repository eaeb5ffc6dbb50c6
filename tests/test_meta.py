import json
from datetime import UTC, datetime, timedelta

from tests.client import Client
from todo_api.contract import DOCUMENT


def test_health_needs_no_token(alice: Client) -> None:
    answer = alice.send("GET", "/health", {}, None)
    assert answer.status == 200
    assert list(answer.json) == ["status", "timestamp"]
    assert answer.json["status"] == "healthy"
    assert abs(datetime.now(UTC) - datetime.fromisoformat(answer.json["timestamp"])) < timedelta(minutes=1)
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_document_is_served(alice: Client) -> None:
    assert alice.send("GET", "/openapi.json", {}, None).json == json.loads(DOCUMENT.read_bytes())
