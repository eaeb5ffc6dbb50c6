"""Behaviour that needs a real server, real sockets and real threads."""

import gzip
import json
import socket
import uuid
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from urllib.parse import quote

import psycopg
import pytest

from tests.support.client import Client
from tests.support.server import Service


def test_it_works(service: Service) -> None:
    alice = service.client(f"alice-{uuid.uuid4()}")
    task = alice.create("Buy milk")
    path = f"{task['id']}/complete"
    assert alice.call("PATCH", path).json["completed"] is True
    assert alice.call("PUT", task["id"], {"title": "Buy bread"}).json["title"] == "Buy bread"
    answer = alice.call("DELETE", task["id"])
    assert (answer.status, answer.body, answer.headers.get("Content-Type")) == (204, b"", None)
    assert alice.list() == []


def test_500_concurrent_flips_all_count(service: Service) -> None:
    alice = service.client(f"alice-{uuid.uuid4()}")
    task = alice.create()
    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(lambda _: alice.call("PATCH", f"{task['id']}/complete"), range(500)))
    assert {answer.status for answer in answers} == {200}
    assert sum(answer.json["completed"] for answer in answers) == 250
    assert alice.list()[0]["completed"] is False
    assert max(answer.json["updated_at"] for answer in answers) == alice.list()[0]["updated_at"]


def test_fifty_concurrent_users_see_only_their_own_tasks(service: Service, sql: psycopg.Connection) -> None:
    def live(number: int) -> list[str]:
        user = service.client(f"user-{number}-{uuid.uuid4()}")
        for n in range(5):
            task = user.create(f"{user.user_id} {n}")
            user.call("PATCH", f"{task['id']}/complete")
        assert all(task["title"].startswith(user.user_id) and task["completed"] for task in user.list())
        return [task["user_id"] for task in user.list()]

    with ThreadPoolExecutor(50) as threads:
        owners = list(threads.map(live, range(50)))
    assert all(len(each) == 5 and len(set(each)) == 1 for each in owners)
    strays = "SELECT count(*) FROM tasks WHERE title LIKE 'user-%%' AND NOT starts_with(title, user_id)"
    assert sql.execute(strays).fetchone() == (0,)


def test_the_longest_valid_request_is_answered(service: Service) -> None:
    alice = service.client("😀" * 255)
    path = f"/api/{quote(alice.user_id)}/tasks?search={quote('😀' * 200)}"
    answer = alice.send("GET", path, alice.headers, None)
    assert (answer.status, answer.json) == (200, [])


def chunked(service: Service, alice: Client, *chunks: bytes) -> tuple[int, bytes]:
    """Send a POST in chunks. Return the status and the body of the response."""
    head = f"POST /api/{alice.user_id}/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: {alice.headers['Authorization']}\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(head.encode() + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        for chunk in chunks:
            connection.sendall(chunk)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return int(answer.split(b" ", 2)[1]), answer


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_a_chunked_body_is_accepted_up_to_the_limit(service: Service) -> None:
    alice = service.client(f"alice-{uuid.uuid4()}")
    body, end = b'{"title": "x"}', b"0\r\n\r\n"
    assert chunked(service, alice, chunk(body[:5]), chunk(body[5:]), end)[0] == 201
    assert chunked(service, alice, chunk(body), chunk(b" " * (64 * 1024 - len(body))), end)[0] == 201
    assert chunked(service, alice, chunk(body), chunk(b" " * (64 * 1024 - len(body) + 1)), end)[0] == 413
    assert len(alice.list()) == 2


def test_an_incomplete_chunked_body_is_a_400(service: Service) -> None:
    alice = service.client(f"alice-{uuid.uuid4()}")
    assert chunked(service, alice, b"zz\r\nnonsense\r\n")[0] == 400
    assert chunked(service, alice, b"5\r\nab")[0] == 400
    assert alice.list() == []
    assert service.logs("unhandled error") == []


@pytest.mark.parametrize("sent", [b"", b'{"completed": true}'])
def test_a_body_shorter_than_content_length_changes_nothing(service: Service, sent: bytes) -> None:
    alice = service.client(f"alice-{uuid.uuid4()}")
    task = alice.create()
    for method, path in (("POST", ""), ("PUT", f"/{task['id']}"), ("PATCH", f"/{task['id']}/complete")):
        head = f"{method} /api/{alice.user_id}/tasks{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
            connection.sendall(f"{head}Authorization: {alice.headers['Authorization']}\r\n\r\n".encode() + sent)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(12) == b"HTTP/1.1 400"
    assert alice.list() == [task]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /api/alice/tasks?search=hunter2 HTTP/9", 400),
        ("GET /api/alice/tasks?search=hunter2-é HTTP/1.1", 400),
        ("GET /health HTTP/1.1\r\nAuthorization Bearer hunter2", 400),
        ("GET /health HTTP/1.1\r\nTransfer-Encoding: hunter2", 400),
        ("GET /health HTTP/1.1\r\nExpect: hunter2", 417),
        (f"GET /health?{'hunter2' * 2000} HTTP/1.1", 414),
        (f"GET /health HTTP/1.1\r\nAuthorization: Bearer {'hunter2' * 2000}", 431),
    ],
)
def test_an_invalid_request_is_not_quoted(service: Service, head: str, status: int) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(f"{head}\r\nHost: x\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.decode().partition("\r\n\r\n")
    assert int(head.split()[1]) == status
    assert json.loads(body) == {"detail": HTTPStatus(status).phrase}
    assert f"Content-Length: {len(body)}" in head.splitlines()
    assert service.logs("invalid request")
    assert "hunter2" not in answer.decode() + service.text()


def test_a_response_is_one_packet(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        for _ in range(20):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
            assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
            assert body


def test_proxy_headers_are_ignored(service: Service) -> None:
    claims = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-For": "8.8.8.8",
        "SCRIPT_NAME": "/api",
        "Script-Name": "/api",
        "Path-Info": "/api",
    }
    assert service.send("GET", "/health", claims, None).status == 200
    for answer in (service.send("GET", "/api/x/tasks", claims, None), service.send("GET", "/api/x/tasks", {}, None)):
        assert answer.status == 401


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /health HTTP/1.1\r\nHost: x\r\nConnection: TE, close", 200),  # RFC 9112, section 9.6: should close
        ("GET /health HTTP/1.1", 200),  # section 3.2: a request without Host should get a 400
        ("GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked", 200),  # section 6.1: should get a 501
    ],
)
def test_gunicorn_departs_from_http_as_documented(service: Service, head: str, status: int) -> None:
    """docs/deploy.md lists these cases. If this test fails after an upgrade, gunicorn has improved: update that list."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode() + b"0\r\n\r\n" * ("chunked" in head))
        assert int(connection.recv(65536).split()[1]) == status
        if "TE, close" in head:
            connection.setblocking(False)
            with pytest.raises(BlockingIOError):  # the connection is still open
                connection.recv(1)


def test_a_body_with_another_coding_closes_the_connection(service: Service) -> None:
    alice = service.client(f"alice-{uuid.uuid4()}")
    head = f"POST /api/{alice.user_id}/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: {alice.headers['Authorization']}\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        packed = gzip.compress(b'{"title": "x"}')
        connection.sendall(f"{head}Transfer-Encoding: gzip, chunked\r\n\r\n".encode() + chunk(packed) + b"0\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400")
    assert alice.list() == []
