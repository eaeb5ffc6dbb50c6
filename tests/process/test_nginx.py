"""`deploy/nginx.conf` in front of the service: clients see no difference, and floods and slow clients do no harm."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
import pytest

from tests.support.client import UNSET, Client, Response, token
from tests.support.load import both_workers, locked
from tests.support.nginx import PAGE, Nginx, on_page
from tests.support.server import Service, executable, free_port, wait_until

OTHER_PAGE = "https://evil.example.com"
OF_THE_CONNECTION = ("Date", "Server", "Connection")
LIMIT = 64 * 1024


def raw(port: int, request: bytes) -> list[bytes]:
    """Send the request. Return the responses until the server closes the connection, without "HTTP/1.1 "."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return answer.split(b"HTTP/1.1 ")[1:]


def is_ours(answer: Response, status: int, detail: str) -> bool:
    """Assert that it is this JSON response and that a page of the allowed origin can read it. Return True."""
    assert (answer.status, answer.json) == (status, {"detail": detail})
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert answer.headers["Access-Control-Expose-Headers"] == "Retry-After, X-Request-Id"
    assert answer.headers["Vary"] == "Authorization, Origin"
    assert len(answer.headers["X-Request-Id"]) == 32
    return True


@pytest.fixture(scope="module")
def upstream(database_url: str) -> Iterator[Service]:
    executable("nginx")
    with Service(database_url, BETTER_AUTH_URL=PAGE, METRICS="true") as service:
        both_workers(service)
        yield service


@pytest.fixture(scope="module")
def nginx(upstream: Service) -> Iterator[Nginx]:
    with Nginx(upstream.port) as nginx:
        yield nginx


@pytest.fixture
def fresh_nginx(upstream: Service) -> Iterator[Nginx]:
    """Start an nginx with unused rate limits."""
    with Nginx(upstream.port) as nginx:
        yield nginx


@pytest.fixture
def carol(nginx: Nginx) -> Client:
    return nginx.client(f"carol-{uuid.uuid4()}")


def test_it_works(carol: Client) -> None:
    task = carol.create("Buy milk", description="2 l")
    assert carol.call("GET", task["id"]).json == task
    assert carol.call("PUT", task["id"], {"title": "Buy bread"}).json["title"] == "Buy bread"
    assert carol.call("PATCH", f"{task['id']}/complete").json["completed"] is True
    assert [each["completed"] for each in carol.list()] == [True]
    answer = carol.call("DELETE", task["id"])
    assert (answer.status, answer.body, answer.headers.get("Content-Type")) == (204, b"", None)
    assert carol.list() == []


def test_etags_stay_strong_so_that_if_match_works(carol: Client) -> None:
    for number in range(50):
        carol.create(f"{number} {'x' * 190}")
    task = carol.list()[0]
    compressed = {"Accept-Encoding": "gzip, br"}
    for path in (task["id"], ""):
        tag = carol.call("GET", path, headers=compressed).headers["ETag"]
        assert tag.startswith('"')
        answer = carol.call("GET", path, headers={**compressed, "If-None-Match": tag})
        assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", tag)
    tag = carol.call("GET", task["id"], headers=compressed).headers["ETag"]
    assert carol.call("PUT", task["id"], {"title": "Buy bread"}, headers={"If-Match": tag}).status == 200
    assert carol.call("PUT", task["id"], {"title": "Buy rye"}, headers={"If-Match": tag}).status == 412


def test_pages_follow_the_link_header(carol: Client) -> None:
    tasks = [carol.create(f"{number}") for number in range(5)]
    answer = carol.call("GET", "?limit=2")
    found = answer.json
    while "Link" in answer.headers:
        path = answer.headers["Link"].partition(">")[0].removeprefix("<")
        answer = carol.send("GET", path, carol.headers, None)
        found += answer.json
    assert found == tasks


def test_a_retry_with_an_idempotency_key_makes_no_second_task(carol: Client) -> None:
    first, second = (carol.call("POST", body={"title": "x"}, headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert (first.status, second.status) == (201, 201)
    assert second.headers["Idempotency-Replayed"] == "true"
    assert carol.list() == [first.json]


PREFLIGHT = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization,if-match"}


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "", UNSET, {}, 200),
        ("GET", "?limit=1&search=%25%2F%20+&status=all", UNSET, {}, 200),
        ("HEAD", "", UNSET, {}, 200),
        ("GET", "{id}", UNSET, {"Accept-Encoding": "gzip"}, 200),
        ("GET", "{id}/", UNSET, {}, 200),
        ("GET", "{id}", UNSET, {"If-None-Match": "*"}, 304),
        ("GET", "{id}", UNSET, {"If-None-Match": "W/{etag}"}, 304),
        ("GET", "{id}", UNSET, {"If-Match": '"999"', "If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 200),
        ("GET", "{id}", UNSET, {"Range": "bytes=0-3"}, 200),
        ("GET", "{id}", UNSET, {"Origin": OTHER_PAGE}, 200),
        ("OPTIONS", "{id}", UNSET, {**PREFLIGHT, "Authorization": ""}, 204),
        ("OPTIONS", "{id}", UNSET, {**PREFLIGHT, "Authorization": "", "Origin": OTHER_PAGE}, 204),
        ("POST", "", b"{", {}, 400),
        ("GET", "", UNSET, {"Authorization": ""}, 401),
        ("GET", "", UNSET, {"Authorization": "Bearer x"}, 401),
        ("GET", "{id}/%2e%2e", UNSET, {}, 404),
        ("GET", "0", UNSET, {}, 404),
        ("GET", "{id}//", UNSET, {}, 404),
        ("GET", "%2F", UNSET, {}, 404),
        ("POST", "{id}", {}, {}, 405),
        ("DELETE", "{id}", UNSET, {"If-Match": '"999"'}, 412),
        ("POST", "", b"{}", {"Content-Type": "text/plain"}, 415),
        ("POST", "", {"title": "", "completed": 1}, {}, 422),
        ("GET", "?limit=0", UNSET, {}, 422),
        ("POST", "", b"[" + b" " * (LIMIT - 2) + b"]", {}, 422),
    ],
)
def test_responses_equal_those_of_the_service(
    nginx: Nginx, upstream: Service, method: str, path: str, body: Any, headers: dict[str, str], status: int
) -> None:
    ours, theirs = (on_page(each.client(f"carol-{method}-{status}")) for each in (nginx, upstream))
    theirs.headers |= ours.headers
    task = (theirs.list() or [theirs.create()])[0]
    path, etag = path.replace("{id}", str(task["id"])), theirs.call("GET", task["id"]).headers["ETag"]
    headers = {name: value.replace("{etag}", etag) for name, value in headers.items()}
    answers = [each.call(method, path, body, headers={"X-Request-Id": "mine", **headers}) for each in (ours, theirs)]
    for answer in answers:
        for name in OF_THE_CONNECTION:
            answer.headers.pop(name, None)
    found, expected = ((answer.status, sorted(answer.headers), answer.body) for answer in answers)
    assert found == expected
    assert (found[0], answers[0].headers["X-Request-Id"]) == (status, "mine")


def test_another_users_path_is_forbidden(carol: Client, nginx: Nginx) -> None:
    assert carol.call("GET", of=nginx.client("dave")).status == 403


@pytest.mark.parametrize("user_id", ["a@b.example+c", "é ü 日本", "100%", "a%2Fb", "%00", "?&#", "..", ".", "a\\b", "a;b=c"])
def test_a_users_path_arrives_as_it_was_sent(nginx: Nginx, upstream: Service, user_id: str) -> None:
    task = nginx.client(user_id).create()
    assert task["user_id"] == user_id
    assert task in nginx.client(user_id).list()
    assert task in upstream.client(user_id).list()


def test_a_body_over_the_limit_is_413(carol: Client) -> None:
    assert is_ours(carol.call("POST", body=b" " * (LIMIT + 1)), 413, "Request Entity Too Large")


@pytest.mark.parametrize(
    ("request_line", "header", "status"),
    [
        ("GET /api/a%00b/tasks HTTP/1.1", "", 400),
        ("GET /../health HTTP/1.1", "", 400),
        ("nonsense", "", 400),
        ("GET /nginx-error HTTP/1.1", "", 404),
        ("GET /metrics HTTP/1.1", "", 404),
        ("GET /metrics/ HTTP/1.1", "", 404),
        ("GET //%6detrics%2f?x HTTP/1.1", "", 404),
        ("GET http://x/./metrics#x HTTP/1.1", "", 404),
        ("TRACE / HTTP/1.1", "", 405),
        (f"GET /{'x' * 9000} HTTP/1.1", "", 414),
        ("GET / HTTP/1.1", "x" * 9000, 431),
        ("POST / HTTP/1.1", "x\r\nTransfer-Encoding: gzip", 501),
    ],
)
def test_errors_of_nginx_itself_are_json(nginx: Nginx, request_line: str, header: str, status: int) -> None:
    (answer,) = raw(nginx.port, f"{request_line}\r\nHost: x\r\nConnection: close\r\nX-Header: {header}\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert int(head[:3]) == status
    assert b"Content-Type: application/json\r\n" in head
    assert b"Server: nginx\r\n" in head  # without a version number
    assert json.loads(body)["detail"]


def test_a_flood_with_one_token_is_429_until_it_ends(fresh_nginx: Nginx) -> None:
    alice, bob = (fresh_nginx.client(f"{name}-{uuid.uuid4()}") for name in ("alice", "bob"))
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: alice.call("GET"), range(300)))
    assert bob.call("GET").status == 200
    assert {answer.status for answer in answers} == {200, 429}
    refusals = [answer for answer in answers if answer.status == 429]
    assert all(is_ours(answer, 429, "Too many requests") for answer in refusals)
    assert {answer.headers["Retry-After"] for answer in refusals} == {"1"}
    wait_until(lambda: alice.call("GET").status == 200, "alice is served again")


def test_only_pages_of_the_allowed_origin_can_read_a_response_of_nginx(carol: Client) -> None:
    for origin in (OTHER_PAGE, f"{PAGE}.example.org", "null", ""):
        answer = carol.call("POST", body=b" " * (LIMIT + 1), headers={"Origin": origin})
        assert answer.status == 413
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control-")]


def test_a_flood_from_one_address_is_429_and_reaches_no_upstream() -> None:
    get = "GET /health HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: {}\r\n\r\n"
    tokens = [uuid.uuid4() for _ in range(900)]
    with Nginx(free_port()) as nginx:  # no server listens on this port
        flood = "".join(get.format(token, "keep-alive") for token in tokens) + get.format(uuid.uuid4(), "close")
        answers = raw(nginx.port, flood.encode())
        upstream = {log["status"]: log["upstream_status"] for log in nginx.logs()}
    assert len(answers) == 901
    assert {answer[:3] for answer in answers} == {b"503", b"429"}
    assert upstream == {"503": "502", "429": ""}


@contextlib.contextmanager
def dribbling(port: int, client: Client) -> Iterator[list[socket.socket]]:
    """Open 100 connections that slowly send a header and 100 that slowly send a body, until the block ends."""
    head = f"POST /api/{client.user_id}/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: {client.headers['Authorization']}\r\n"
    ended = threading.Event()

    def dribble() -> None:
        while not ended.wait(0.2):
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.send(b"x")

    with contextlib.ExitStack() as opened, ThreadPoolExecutor(1) as thread:
        connections = [opened.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(200)]
        for number, connection in enumerate(connections):
            rest = "X-Slow: x" if number % 2 else 'Content-Length: 10000\r\n\r\n{"title": "'
            connection.sendall((head + rest).encode())
        dribbler = thread.submit(dribble)
        try:
            yield connections
        finally:
            ended.set()
        dribbler.result()


def is_open(connection: socket.socket) -> bool:
    """Return whether the connection is open and no response has arrived."""
    try:
        connection.recv(1, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    return False


def test_two_hundred_slow_clients_keep_nobody_waiting(nginx: Nginx, carol: Client) -> None:
    alice = nginx.client(f"alice-{uuid.uuid4()}")
    with dribbling(nginx.port, carol) as connections, ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(lambda _: alice.call("POST", body={"title": "Buy milk"}), range(50)))
        assert [answer.status for answer in answers] == [201] * 50
        assert sum(map(is_open, connections)) == 200
    assert carol.list() == []


@pytest.mark.long
def test_a_service_that_is_killed_is_503_until_it_is_back(database_url: str, sql: psycopg.Connection) -> None:
    executable("nginx")
    service = Service(database_url, BETTER_AUTH_URL=PAGE)
    with Nginx(service.port) as nginx, ThreadPoolExecutor(1) as thread:
        alice = nginx.client(f"alice-{uuid.uuid4()}")
        with service, psycopg.connect(database_url) as other:
            task_id, workers = alice.create()["id"], both_workers(service)
            other.execute("SELECT FROM tasks WHERE user_id = %s FOR UPDATE", [alice.user_id])
            patch = thread.submit(alice.call, "PATCH", f"{task_id}/complete", {"completed": True})
            wait_until(lambda: locked(sql), "the request waits for the row")
            service.stop(signal.SIGKILL)
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
            answers = [patch.result(), alice.call("GET"), alice.call("POST", body={"title": "x"})]
            assert all(is_ours(answer, 503, "Service temporarily unavailable") for answer in answers)
            assert {answer.headers["Retry-After"] for answer in answers} == {"1"}
        with service:
            assert [task["id"] for task in alice.list()] == [task_id]


def test_the_log_has_the_id_of_each_request_and_neither_queries_nor_tokens(nginx: Nginx, carol: Client) -> None:
    answer = carol.call("GET", "?search=hunter2")
    record = nginx.record(answer.headers["X-Request-Id"])
    assert record["request"] == f"GET /api/{carol.user_id}/tasks"
    assert (record["status"], record["upstream_status"]) == ("200", "200")
    printed = "".join(path.read_text() for path in nginx.home.iterdir() if path.is_file())
    assert "hunter2" not in printed
    assert carol.headers["Authorization"].split()[1] not in printed


class OldBackend(BaseHTTPRequestHandler):
    """Signs in users like the FastAPI backend: it returns a token that is signed with the shared secret."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        user = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["email"]
        body = json.dumps({"path": self.path, "token": token({"sub": user})}).encode()
        self.send_response(200)
        self.send_header("Access-Control-Allow-Origin", PAGE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class NginxWithSignIn(Nginx):
    """nginx with the change that the comment about /api/auth/ in nginx.conf describes."""

    def __init__(self, upstream: int, old_backend: int) -> None:
        super().__init__(upstream)
        self.old_backend = old_backend

    def configure(self) -> None:
        super().configure()
        file = self.home / "nginx.conf"
        text, found = re.subn(
            r"^ +# location /api/auth/ \{\n.*?^ +# \}\n",
            lambda match: match[0].replace("# ", "").replace("127.0.0.1:8001", f"127.0.0.1:{self.old_backend}"),
            file.read_text(),
            flags=re.MULTILINE | re.DOTALL,
        )
        assert found == 1
        file.write_text(text)


def test_sign_in_can_stay_with_the_old_backend(upstream: Service) -> None:
    body = {"email": f"erin-{uuid.uuid4()}", "password": "hunter2"}
    with ThreadingHTTPServer(("127.0.0.1", 0), OldBackend) as old_backend:
        threading.Thread(target=old_backend.serve_forever, daemon=True).start()
        with NginxWithSignIn(upstream.port, old_backend.server_port) as nginx:
            erin = nginx.client(body["email"])
            headers = {"Content-Type": "application/json", "Origin": PAGE}
            for path in ("/api/auth/register", "/api/auth/login"):
                response = erin.send("POST", path, headers, json.dumps(body).encode())
                assert (response.status, response.json["path"]) == (200, path)
                assert response.headers.get_all("Access-Control-Allow-Origin") == [PAGE]
            erin.headers["Authorization"] = f"Bearer {response.json['token']}"
            task = erin.create()
            assert erin.list() == [task]
        old_backend.shutdown()
    assert erin.user_id in {each["user_id"] for each in upstream.client(erin.user_id).list()}


def test_without_an_old_backend_there_is_no_sign_in(carol: Client) -> None:
    response = carol.send("POST", "/api/auth/login", {"Origin": PAGE}, b"{}")
    assert (response.status, response.json) == (404, {"detail": "Not Found"})
