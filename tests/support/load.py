"""Many requests at once, and what must be true of the answers."""

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
    """What creates have come to.

    Attributes:
        ids: the tasks whose creation was acknowledged.
        refusals: the statuses of all other answers.
        broken: what ended the connections that ended without an answer.
    """

    ids: list[int] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    broken: list[Exception] = field(default_factory=list)

    def wait_for_more(self) -> None:
        enough = len(self.ids) + 100
        wait_until(lambda: len(self.ids) >= enough, "another hundred tasks are created")


def create(alice: Client) -> Response:
    return alice.call("POST", body={"title": "Buy milk"})


@contextlib.contextmanager
def writing(alice: Client, write_one: Callable[[Client], Response] = create) -> Iterator[Writes]:
    """Threads that create tasks until the block ends."""
    writes, ended = Writes(), threading.Event()

    def write() -> None:
        while not ended.is_set():
            try:
                answer = write_one(alice)
            except (OSError, http.client.HTTPException) as error:
                writes.broken.append(error)
                ended.wait(0.01)  # or refused connections take the processor from whoever must come back
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
    """Their process ids. The second starts a moment after the first, which has answered before that."""
    wait_until(lambda: len(service.workers()) == 2, "both workers are there")
    return service.workers()


def lost(database_url: str, alice: Client, writes: Writes) -> set[int]:
    """The acknowledged tasks that are not in the database."""
    with psycopg.connect(database_url) as conn:
        stored = conn.execute("SELECT id FROM tasks WHERE user_id = %s", [alice.user_id])
        return set(writes.ids) - {task_id for (task_id,) in stored}


def waiting(sql: psycopg.Connection, text: str = "") -> int:
    """How many statements with this text in them wait for a lock."""
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND strpos(query, %s) > 0"
    (count,) = sql.execute(f"{waits} AND datname = current_database()", [text]).fetchone() or (0,)
    return int(count)


def locked(sql: psycopg.Connection, text: str = "/* update_task */") -> bool:
    """Whether a statement with this text in it waits for a lock; by default a toggle for its row."""
    return waiting(sql, text) > 0


def is_unavailable(answer: Response) -> bool:
    """Whether it is the 503 that a page of the frontend's origin can read."""
    assert answer.status == 503
    assert answer.json == {"detail": "Service temporarily unavailable"}
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    return True


def at_once(alice: Client, count: int) -> set[int]:
    """The statuses of so many lists from 16 threads, which make both workers open many connections."""
    with ThreadPoolExecutor(16) as threads:
        return {answer.status for answer in threads.map(lambda _: alice.call("GET"), range(count))}


def every_operation(task_id: int) -> list[tuple[Any, ...]]:
    """The arguments of `Client.call` for each of the six."""
    return [
        ("GET", ""),
        ("POST", "", {"title": "Buy bread"}),
        ("GET", task_id),
        ("PUT", task_id, {"title": "Buy bread"}),
        ("PATCH", f"{task_id}/complete"),
        ("DELETE", task_id),
    ]
