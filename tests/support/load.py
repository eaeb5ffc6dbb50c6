"""Sends many requests at once and checks the responses."""

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.support.client import ORIGIN, Client, Response
from tests.support.server import Service, wait_until

WRITERS = 8


@dataclass
class Writes:
    """The results of create requests.

    Attributes:
        ids: the ids of the tasks that were created with a 201.
        refusals: the statuses of all other responses.
        broken: the exceptions of the requests that got no response.
    """

    ids: list[int] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    broken: list[Exception] = field(default_factory=list)

    def wait_for_more(self) -> None:
        enough = len(self.ids) + 100
        wait_until(lambda: len(self.ids) >= enough, "100 more tasks are created")


def create(alice: Client) -> Response:
    return alice.call("POST", body={"title": "Buy milk"})


@contextlib.contextmanager
def writing(alice: Client, write_one: Callable[[Client], Response] = create) -> Iterator[Writes]:
    """Create tasks in several threads until the block ends."""
    writes, ended = Writes(), threading.Event()

    def write() -> None:
        while not ended.is_set():
            try:
                answer = write_one(alice)
            except (OSError, http.client.HTTPException) as error:
                writes.broken.append(error)
                ended.wait(0.01)  # otherwise this loop takes the CPU time that the server needs to come back
                continue
            if answer.status == 201:
                writes.ids.append(answer.json["id"])
            else:
                writes.refusals.append(answer.status)

    with ThreadPoolExecutor(WRITERS) as threads:
        writers = [threads.submit(write) for _ in range(WRITERS)]
        try:
            writes.wait_for_more()
            yield writes
        finally:
            ended.set()
    for writer in writers:
        writer.result()


def both_workers(service: Service) -> list[int]:
    """Wait for both workers and return their process ids. The service responds before the second has started."""
    wait_until(lambda: len(service.workers()) == 2, "both workers run")
    return service.workers()


def lost(database_url: str, alice: Client, writes: Writes) -> set[int]:
    """Return the ids of tasks that were created with a 201 but are not in the database."""
    with psycopg.connect(database_url) as conn:
        stored = conn.execute("SELECT id FROM tasks WHERE user_id = %s", [alice.user_id])
        return set(writes.ids) - {task_id for (task_id,) in stored}


def waiting(sql: psycopg.Connection, text: str = "") -> int:
    """Return how many statements that contain this text are waiting for a lock."""
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND strpos(query, %s) > 0"
    (count,) = sql.execute(f"{waits} AND datname = current_database()", [text]).fetchone() or (0,)
    return int(count)


def locked(sql: psycopg.Connection, text: str = "/* update_task */") -> bool:
    """Return whether a statement that contains this text is waiting for a lock. By default, look for an update or toggle."""
    return waiting(sql, text) > 0


def is_unavailable(answer: Response) -> bool:
    """Assert that the response is a 503 that a page of the frontend's origin can read. Return True."""
    assert answer.status == 503
    assert answer.json == {"detail": "Service temporarily unavailable"}
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    return True


def at_once(alice: Client, count: int) -> set[int]:
    """Request the list `count` times from 16 threads, so that both workers open many connections. Return the statuses."""
    with ThreadPoolExecutor(16) as threads:
        return {answer.status for answer in threads.map(lambda _: alice.call("GET"), range(count))}


def every_operation(task_id: int) -> list[tuple[Any, ...]]:
    """Return the arguments of `Client.call` for each of the six operations."""
    return [
        ("GET", ""),
        ("POST", "", {"title": "Buy bread"}),
        ("GET", task_id),
        ("PUT", task_id, {"title": "Buy bread"}),
        ("PATCH", f"{task_id}/complete"),
        ("DELETE", task_id),
    ]
