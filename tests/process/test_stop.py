"""Stopping, killing and reloading: what the service has acknowledged is kept, what it has begun is finished."""

import contextlib
import http.client
import os
import signal
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import psycopg

from tests.client import Client
from tests.process.service import Service, wait_until

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


@contextlib.contextmanager
def writing(alice: Client) -> Iterator[Writes]:
    """Threads that create tasks until the block ends."""
    writes, ended = Writes(), threading.Event()

    def write() -> None:
        while not ended.is_set():
            try:
                answer = alice.call("POST", body={"title": "Buy milk"})
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


def locked(sql: psycopg.Connection) -> bool:
    """Whether a toggle waits for a row."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND starts_with(query, '/* toggle_task */')"
    return bool(sql.execute(f"{waiting} AND datname = current_database()").fetchone())


def test_sigterm_lets_a_request_finish(database_url: str, sql: psycopg.Connection) -> None:
    with Service(database_url) as service, ThreadPoolExecutor(1) as thread:
        alice = service.client(f"alice-{uuid.uuid4()}")
        task = alice.create()
        both_workers(service)
        with psycopg.connect(database_url) as other:
            other.execute("SELECT FROM tasks WHERE user_id = %s AND id = %s FOR UPDATE", [alice.user_id, task["id"]])
            patch = thread.submit(alice.call, "PATCH", f"{task['id']}/complete")
            wait_until(lambda: locked(sql), "the request waits for the row")
            service.process.send_signal(signal.SIGTERM)
            wait_until(lambda: len(service.workers()) == 1, "the idle worker has stopped")
            assert not patch.done()
        assert (patch.result().status, patch.result().json["completed"]) == (200, True)
        assert service.process.wait(60) == 0
    assert sql.execute("SELECT completed FROM tasks WHERE id = %s", [task["id"]]).fetchone() == (True,)


def test_sigterm_under_load_loses_no_acknowledged_task(database_url: str) -> None:
    with Service(database_url) as service:
        alice = service.client(f"alice-{uuid.uuid4()}")
        with writing(alice) as writes:
            assert service.stop() == 0
        assert {record["level"] for record in service.logs()} == {"INFO"}
    assert writes.refusals == []
    assert lost(database_url, alice, writes) == set()


def test_a_worker_that_is_killed_is_replaced_and_loses_no_acknowledged_task(database_url: str) -> None:
    with Service(database_url) as service:
        alice = service.client(f"alice-{uuid.uuid4()}")
        with writing(alice) as writes:
            victim, survivor = both_workers(service)
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: victim not in service.workers(), "the dead worker is gone")
            assert survivor in both_workers(service)
            writes.wait_for_more()
    assert writes.refusals == []
    assert len(writes.broken) <= WRITERS
    assert lost(database_url, alice, writes) == set()


def test_sighup_replaces_the_workers_and_refuses_nobody(database_url: str) -> None:
    with Service(database_url) as service:
        alice = service.client(f"alice-{uuid.uuid4()}")
        with writing(alice) as writes:
            before = set(both_workers(service))
            service.process.send_signal(signal.SIGHUP)
            wait_until(lambda: before.isdisjoint(service.workers()), "the old workers are gone")
            assert len(both_workers(service)) == 2
            writes.wait_for_more()
        assert service.stop() == 0
    assert (writes.refusals, writes.broken) == ([], [])
    assert lost(database_url, alice, writes) == set()
