"""Slow clients and waiting requests do not delay other requests."""

import socket
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.client import Client, Response, application, in_process
from tests.support.load import waiting
from tests.support.server import Service, wait_until
from todo_api.statements import Statement

HEADERS = b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: "
BODY = (
    "POST /api/{0.user_id}/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: {0.headers[Authorization]}\r\nContent-Length: 14\r\n\r\n{{"
)


@pytest.fixture
def alice(service: Service) -> Client:
    return service.client(f"alice-{uuid.uuid4()}")


@pytest.fixture(params=["headers", "body"])
def dribblers(service: Service, alice: Client, request: pytest.FixtureRequest) -> Iterator[list[socket.socket]]:
    """Open 200 connections that have sent the first part of a request."""
    begun = HEADERS if request.param == "headers" else BODY.format(alice).encode()
    with ExitStack() as opened:
        connections = [opened.enter_context(socket.create_connection(("127.0.0.1", service.port))) for _ in range(200)]
        for connection in connections:
            connection.sendall(begun)
        yield connections


def test_two_hundred_slow_clients_delay_nobody(alice: Client, dribblers: list[socket.socket]) -> None:
    with ThreadPoolExecutor(10) as threads:
        for _ in range(5):
            for connection in dribblers:
                connection.sendall(b" ")
            assert {answer.status for answer in threads.map(lambda _: alice.call("GET"), range(20))} == {200}
    for connection in dribblers:
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):  # the service waits for the rest
            connection.recv(1)


def test_a_slow_request_is_answered_when_complete(dribblers: list[socket.socket]) -> None:
    first = dribblers[0]
    first.sendall(b'"title": "x"}\r\n\r\n')
    assert first.recv(12) in (b"HTTP/1.1 200", b"HTTP/1.1 201")


@pytest.mark.parametrize("operation", [("PATCH", "{id}/complete"), ("POST", "", {"title": "Buy milk"})], ids=["flips", "retries"])
@pytest.mark.parametrize("users", [1, 3])
def test_many_requests_for_locked_rows_delay_nobody(
    operation: tuple[Any, ...], users: int, service: Service, database_url: str
) -> None:
    actors = [service.client(f"alice-{uuid.uuid4()}") for _ in range(users)]
    bob = service.client(f"bob-{uuid.uuid4()}")
    task_id = bob.create()["id"]
    key = {"Idempotency-Key": "k"}
    created = [actor.call("POST", body={"title": "Buy milk"}, headers=key).json for actor in actors]
    method, path, *body = operation
    with (
        psycopg.connect(database_url) as other,
        psycopg.connect(database_url, autocommit=True) as sql,
        ThreadPoolExecutor(40) as threads,
    ):
        other.execute("SELECT FROM tasks WHERE user_id = ANY (%s) FOR UPDATE", [[actor.user_id for actor in actors]])
        stuck: list[Future[Response]] = []

        def both_are_full(more: int = 1) -> bool:
            for actor, task in zip(actors * more, created * more, strict=True):  # the workers get a random share
                stuck.append(threads.submit(actor.call, method, path.format_map(task), *body, headers=key))
            return waiting(sql) == (8 if users == 1 else 14)

        both_are_full(13)
        wait_until(both_are_full, "the requests use all connections that they may use")
        for _ in range(20):
            assert service.send("GET", "/health", {}, None).status == 200
            assert bob.call("GET", task_id).status == 200
            assert users > 1 or bob.create()
        assert not all(each.done() for each in stuck)
        other.rollback()
        assert {each.result().status for each in stuck} <= {200, 201, 503}


@pytest.fixture
def impatient(database_url: str) -> Iterator[Service]:
    """Start a service with a short limit for stalled clients, so that a test can wait for it."""
    with Service(database_url, "--worker-class", "tests.support.impatient.ImpatientWorker") as service:
        yield service


def test_a_client_that_stalls_in_a_body_gets_a_400(impatient: Service) -> None:
    alice = impatient.client(f"alice-{uuid.uuid4()}")
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=15) as connection:
        connection.sendall(BODY.format(alice).encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert alice.list() == []


def test_a_client_that_never_reads_a_large_response_is_disconnected(impatient: Service, sql: psycopg.Connection) -> None:
    alice = impatient.client(f"alice-{uuid.uuid4()}")
    sql.execute(
        "INSERT INTO tasks (user_id, title, description) SELECT %s, 'x', repeat('x', 1000) FROM generate_series(1, 20000)",
        [alice.user_id],
    )
    head = f"GET /api/{alice.user_id}/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: {alice.headers['Authorization']}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=15) as connection:
        connection.sendall(head.encode())
        assert held(impatient, connection)
        wait_until(lambda: not held(impatient, connection), "the service has closed the connection")
        assert len(b"".join(iter(lambda: connection.recv(1 << 20), b""))) < 20_000_000
    assert {record["level"] for record in impatient.logs()} == {"INFO"}
    assert len(alice.list()) == 20_000


@pytest.fixture
def pipeliner() -> Iterator[Callable[[Service], socket.socket]]:
    """Yield a function that opens a connection, sends 3,000 requests and reads no response."""
    with ExitStack() as opened:

        def connect(service: Service) -> socket.socket:
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=15))
            connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 3000)
            return connection

        yield connect


def test_a_client_that_never_reads_small_responses_is_disconnected(
    impatient: Service, pipeliner: Callable[[Service], socket.socket]
) -> None:
    connection = pipeliner(impatient)
    assert held(impatient, connection)
    wait_until(lambda: not held(impatient, connection), "the service has closed the connection")
    assert {record["level"] for record in impatient.logs()} == {"INFO"}


@pytest.mark.long
def test_a_client_that_never_reads_does_not_delay_a_stop(
    database_url: str, pipeliner: Callable[[Service], socket.socket]
) -> None:
    with Service(database_url) as service:
        connection = pipeliner(service)
        sizes: list[int] = []

        def full() -> bool:
            sizes.append(unread(connection))
            return sizes[-50:] == sizes[-1:] * 50

        wait_until(full, "no more responses arrive")
        assert service.stop() == 0
        assert all_workers_exited(service)


@pytest.mark.long
def test_a_body_that_stalls_does_not_delay_a_stop(database_url: str) -> None:
    with Service(database_url) as service:
        alice = service.client(f"alice-{uuid.uuid4()}")
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
            connection.sendall(BODY.format(alice).encode())
            assert alice.list() == []
            assert service.stop() == 0
            assert connection.recv(12) == b"HTTP/1.1 400"
        assert all_workers_exited(service)


def all_workers_exited(service: Service) -> bool:
    """Return whether each worker exited by itself. The master kills the others after graceful_timeout."""
    return len([record for record in service.logs() if record["message"].startswith("Worker exiting")]) == service.children


def unread(connection: socket.socket) -> int:
    """Return how many bytes have arrived but are not read yet."""
    return len(connection.recv(1 << 24, socket.MSG_PEEK))


def held(service: Service, connection: socket.socket) -> bool:
    """Return whether the service's end of the connection is open, according to the kernel."""
    ends = f":{service.port:04X} 0100007F:{connection.getsockname()[1]:04X} 01 "  # both ports, and the state "established"
    return ends in Path("/proc/net/tcp").read_text()


def test_many_slow_lists_of_one_user_delay_nobody(database_url: str) -> None:
    with application(database_url) as app:
        alice, bob = Client(in_process(app), f"alice-{uuid.uuid4()}"), Client(in_process(app), f"bob-{uuid.uuid4()}")
        app.extensions["statements"]["list_tasks"] = Statement(
            b"SELECT '[]', nullif($1::text, $1) FROM (SELECT pg_advisory_xact_lock_shared(1)) AS done", ["user_id"]
        )
        with (
            psycopg.connect(database_url) as other,
            psycopg.connect(database_url, autocommit=True) as sql,
            ThreadPoolExecutor(20) as threads,
        ):
            other.execute("SELECT pg_advisory_xact_lock(1)")
            stuck = [threads.submit(alice.call, "GET") for _ in range(20)]
            wait_until(lambda: waiting(sql) == 4, "half of the connections wait")
            assert [bob.create()["title"] for _ in range(20)]
            assert not all(each.done() for each in stuck)
            other.rollback()
            assert {each.result().status for each in stuck} <= {200, 503}
