import pytest

from tests.support.client import ORIGIN, Client

HEADERS = ["Authorization", "Content-Type", "If-Match", "If-None-Match", "Idempotency-Key", "X-Request-Id"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["", "1", "1/", "1/complete"])
def test_a_preflight_is_allowed(alice: Client, method: str, path: str) -> None:
    asked = {"Authorization": "", "Access-Control-Request-Method": method, "Access-Control-Request-Headers": ", ".join(HEADERS)}
    answer = alice.call("OPTIONS", path, headers=asked)
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert method in answer.headers["Access-Control-Allow-Methods"]
    assert sorted(answer.headers["Access-Control-Allow-Headers"].split(", ")) == sorted(HEADERS)
    assert int(answer.headers["Access-Control-Max-Age"]) > 600


def test_the_second_origin_is_allowed_too(alice: Client) -> None:
    answer = alice.call("GET", headers={"Origin": "http://[::1]:3000"})
    assert answer.headers["Access-Control-Allow-Origin"] == "http://[::1]:3000"


@pytest.mark.parametrize("origin", ["https://evil.example", f"{ORIGIN}.evil.example", "http://[::1]:3000.evil.example", "null"])
def test_no_other_origin_is_allowed(alice: Client, origin: str) -> None:
    answer = alice.call("GET", headers={"Origin": origin})
    assert answer.status == 200
    assert not any(name.startswith("Access-Control-") for name in dict(answer.headers))
    assert "Origin" in answer.headers["Vary"]


def test_without_an_origin_there_are_no_cors_headers(alice: Client) -> None:
    answer = alice.call("GET", headers={"Origin": ""})
    assert not any(name.startswith("Access-Control-") for name in dict(answer.headers))
    assert "Origin" in answer.headers["Vary"]


def test_every_answer_can_be_read_by_the_page(alice: Client, bob: Client) -> None:
    task = alice.create()
    answers = [
        alice.call("GET"),
        alice.call("POST", body={"title": "x"}),
        alice.call("DELETE", task["id"]),
        alice.call("GET", headers={"Authorization": ""}),
        alice.call("GET", of=bob),
        alice.call("GET", task["id"]),
        alice.call("PATCH"),
        alice.call("POST", body=b"{"),
        alice.call("POST", body=b"x" * 70_000),
        alice.call("POST", body=b"x", headers={"Content-Type": "text/plain"}),
        alice.call("POST", body={}),
        alice.send("GET", "/nope", {"Origin": ORIGIN}, None),
        alice.send("GET", "/health", {"Origin": ORIGIN}, None),
    ]
    assert [answer.status for answer in answers] == [200, 201, 204, 401, 403, 404, 405, 400, 413, 415, 422, 404, 200]
    for answer in answers:
        assert answer.headers.getlist("Access-Control-Allow-Origin") == [ORIGIN]
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
        assert exposed == ["ETag", "Link", "Location", "Retry-After", "X-Request-Id"]
        assert "Origin" in answer.headers["Vary"]
