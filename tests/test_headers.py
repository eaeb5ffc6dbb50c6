import re

import pytest

from tests.support.client import Client


def test_a_sent_request_id_is_returned(alice: Client) -> None:
    assert alice.call("GET", headers={"X-Request-Id": "Web-1_a.b"}).headers["X-Request-Id"] == "Web-1_a.b"


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "ü", 'a"b', "{}"])
def test_without_a_valid_request_id_one_is_generated(alice: Client, given: str) -> None:
    made = {alice.call("GET", headers={"X-Request-Id": given}).headers["X-Request-Id"] for _ in range(2)}
    assert len(made) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in made)


def test_error_responses_have_a_request_id(alice: Client) -> None:
    for path in ("/nope", "/api/alice/tasks"):
        assert alice.send("GET", path, {"X-Request-Id": "mine"}, None).headers["X-Request-Id"] == "mine"


def test_changes_errors_and_health_are_not_cached(alice: Client) -> None:
    task = alice.create()
    answers = [
        alice.call("POST", body={"title": "x"}),
        alice.call("PATCH", f"{task['id']}/complete"),
        alice.call("DELETE", task["id"]),
        alice.call("GET", task["id"]),
        alice.call("GET", headers={"Authorization": ""}),
        alice.send("GET", "/health", {}, None),
        alice.send("GET", "/ready", {}, None),
    ]
    assert {answer.headers["Cache-Control"] for answer in answers} == {"no-store"}
    assert {answer.headers["Vary"] for answer in answers} == {"Authorization, Origin"}
