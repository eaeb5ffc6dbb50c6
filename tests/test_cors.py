import pytest
from flask import Flask

from tests.support.client import ORIGIN, Client, application, in_process

HEADERS = ["Authorization", "Content-Type", "If-Match", "If-None-Match", "Idempotency-Key", "X-Request-Id"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["", "1", "1/", "1/complete"])
def test_a_preflight_is_allowed(alice: Client, method: str, path: str) -> None:
    asked = {"Authorization": "", "Access-Control-Request-Method": method, "Access-Control-Request-Headers": ", ".join(HEADERS)}
    answer = alice.call("OPTIONS", path, headers=asked)
    assert (answer.status, answer.body) == (204, b"")
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


def test_the_page_can_read_every_response(alice: Client, bob: Client) -> None:
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
        assert exposed == ["ETag", "Idempotency-Replayed", "Link", "Location", "Retry-After", "X-Request-Id"]
        assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize("path", ["/api/tasks", "/", "/nope", "/api/alice/tasks/1/nope", "/health"])
def test_a_preflight_succeeds_on_every_path_so_that_pages_can_read_the_404(app: Flask, path: str) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    response = in_process(app)("OPTIONS", path, asked, None)
    assert response.status == 204
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert response.headers["Access-Control-Allow-Headers"] == "authorization"
    assert response.headers["X-Request-Id"]


def test_options_without_a_preflight_lists_the_methods(alice: Client) -> None:
    response = alice.call("OPTIONS", headers={"Authorization": ""})
    assert response.status == 200
    assert {"GET", "POST"} <= set(response.headers["Allow"].split(", "))
    assert alice.send("OPTIONS", "/nope", {"Origin": ORIGIN}, None).status == 404


@pytest.mark.parametrize("origin", ["http://localhost:5173", "http://127.0.0.1:8080", "http://localhost"])
def test_every_port_of_localhost_is_allowed_only_by_the_setting(database_url: str, alice: Client, origin: str) -> None:
    assert "Access-Control-Allow-Origin" not in alice.call("GET", headers={"Origin": origin}).headers
    with application(database_url, CORS_ALLOW_LOCALHOST="true") as app:
        headers = {"Origin": origin, "Access-Control-Request-Method": "GET"}
        for response in (
            Client(in_process(app), "alice").call("OPTIONS", headers=headers),
            in_process(app)("GET", "/health", headers, None),
        ):
            assert response.headers["Access-Control-Allow-Origin"] == origin
        for other in ("http://localhost.evil.example", "http://evil.example/localhost", "https://localhost:5173"):
            assert "Access-Control-Allow-Origin" not in in_process(app)("GET", "/health", {"Origin": other}, None).headers


def test_a_rejected_origin_is_logged_once(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    with application(database_url) as app:
        for origin in ("http://localhost:5173", "http://localhost:5173", ORIGIN):
            in_process(app)("GET", "/health", {"Origin": origin}, None)
    (record,) = (vars(record) for record in caplog.records)
    assert record["origin"] == "http://localhost:5173"
    assert "BETTER_AUTH_URL" in record["message"]


def test_a_page_of_the_service_itself_is_not_logged(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    with application(database_url) as app:
        response = in_process(app)("POST", "/api/alice/tasks", {"Origin": "http://localhost", "Host": "localhost"}, b"{}")
    assert "Access-Control-Allow-Origin" not in response.headers
    assert "origin" not in caplog.text


def test_a_rejected_preflight_is_logged_because_browsers_send_nothing_else(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with application(database_url) as app:
        asked = {"Origin": "http://localhost:5173", "Access-Control-Request-Method": "GET"}
        response = in_process(app)("OPTIONS", "/api/alice/tasks", asked, None)
    assert "Access-Control-Allow-Origin" not in response.headers
    assert [vars(record)["origin"] for record in caplog.records] == ["http://localhost:5173"]
