"""Clients that send slowly, and requests that wait: nobody else does."""

import socket
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psycopg
import pytest

from tests.client import Client
from tests.process.service import Service, wait_until

HEADERS = b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: "
BODY = (
    "POST /api/{0.user_id}/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: {0.headers[Authorization]}\r\nContent-Length: 14\r\n\r\n{{"
)


@pytest.fixture
def alice(service: Service) -> Client:
    return service.client(f"alice-{uuid.uuid4()}")


@pytest.fixture(params=["headers", "body"])
def dribblers(service: Service, alice: Client, request: pytest.FixtureRequest) -> Iterator[list[socket.socket]]:
    """200 connections that have sent the beginning of a request."""
    begun = HEADERS if request.param == "headers" else BODY.format(alice).encode()
    with ExitStack() as opened:
        connections = [opened.enter_context(socket.create_connection(("127.0.0.1", service.port))) for _ in range(200)]
        for connection in connections:
            connection.sendall(begun)
        yield connections


def test_two_hundred_slow_clients_stop_nobody(alice: Client, dribblers: list[socket.socket]) -> None:
    with ThreadPoolExecutor(10) as threads:
        for _ in range(5):
            for connection in dribblers:
                connection.sendall(b" ")
            assert {answer.status for answer in threads.map(lambda _: alice.call("GET"), range(20))} == {200}
    for connection in dribblers:
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):  # it still waits for the rest
            connection.recv(1)


def test_a_slow_request_is_answered_at_its_end(alice: Client, dribblers: list[socket.socket]) -> None:
    first = dribblers[0]
    first.sendall(b'"title": "x"}\r\n\r\n')
    assert first.recv(12) in (b"HTTP/1.1 200", b"HTTP/1.1 201")


def test_many_requests_for_a_locked_row_stop_nobody(service: Service, alice: Client, database_url: str) -> None:
    bob = service.client(f"bob-{uuid.uuid4()}")
    path = f"{alice.create()['id']}/complete"
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%/* toggle_task */%'"
        " AND datname = current_database()"
    )
    with (
        psycopg.connect(database_url) as other,
        psycopg.connect(database_url, autocommit=True) as sql,
        ThreadPoolExecutor(40) as threads,
    ):
        other.execute("SELECT FROM tasks WHERE user_id = %s FOR UPDATE", [alice.user_id])
        stuck = [threads.submit(alice.call, "PATCH", path) for _ in range(40)]

        def both_are_full() -> bool:
            stuck.append(threads.submit(alice.call, "PATCH", path))  # nobody says which worker gets how many
            return sql.execute(waiting).fetchone() == (8,)

        wait_until(both_are_full, "half of both workers' connections wait for the row")
        for _ in range(20):
            assert service.send("GET", "/health", {}, None).status == 200
            assert bob.create()
        assert not all(each.done() for each in stuck)
        other.rollback()
        assert {each.result().status for each in stuck} <= {200, 503}
