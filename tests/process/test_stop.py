"""Stops, kills and reloads: no acknowledged task is lost, and requests in flight are finished."""

import contextlib
import http.client
import json
import os
import signal
import uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.support.load import WRITERS, both_workers, locked, lost, writing
from tests.support.server import Service, wait_until

pytestmark = pytest.mark.long


def test_sigterm_finishes_a_request_in_flight(database_url: str, sql: psycopg.Connection) -> None:
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


def test_a_connection_is_closed_after_a_response_during_a_stop(database_url: str, sql: psycopg.Connection) -> None:
    with (
        Service(database_url, WEB_CONCURRENCY="1") as service,
        psycopg.connect(database_url) as other,
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=15)) as late,
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=15)) as idle,
    ):
        alice = service.client(f"alice-{uuid.uuid4()}")
        task_id = alice.create()["id"]
        idle.request("GET", "/health")
        assert idle.getresponse().read()
        other.execute("SELECT FROM tasks WHERE user_id = %s FOR UPDATE", [alice.user_id])
        late.request("PATCH", f"/api/{alice.user_id}/tasks/{task_id}/complete", headers=alice.headers)
        wait_until(lambda: locked(sql), "the request waits for the row")
        service.process.terminate()
        assert idle.sock.recv(1) == b""  # the worker has closed its idle connections
        other.rollback()
        assert json.load(late.getresponse())["completed"] is True
        assert late.sock.recv(1) == b""  # long before graceful_timeout
        assert service.process.wait(15) == 0


def test_sigterm_closes_idle_connections(database_url: str) -> None:
    with Service(database_url) as service, contextlib.ExitStack() as opened:
        for _ in range(8):
            connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
            opened.callback(connection.close)
            connection.request("GET", "/health")
            assert connection.getresponse().read()
        service.process.terminate()
        assert service.process.wait(15) == 0  # long before graceful_timeout
        assert {record["level"] for record in service.logs()} == {"INFO"}


def test_max_requests_closes_idle_connections(database_url: str) -> None:
    with (
        Service(database_url, "--max-requests", "20", WEB_CONCURRENCY="1") as service,
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)) as idle,
    ):
        (worker,) = service.workers()
        idle.request("GET", "/health")
        assert idle.getresponse().read()
        while not service.logs("Autorestarting worker after current request."):
            assert service.send("GET", "/health", {}, None).status == 200
        assert idle.sock.recv(1) == b""
        wait_until(lambda: service.workers() not in ([], [worker]), "another worker has taken over")
        assert service.send("GET", "/health", {}, None).status == 200
        assert {record["level"] for record in service.logs()} == {"INFO"}  # gunicorn warns when graceful_timeout has passed


def test_sigterm_under_load_loses_no_acknowledged_task(database_url: str) -> None:
    with Service(database_url) as service:
        alice = service.client(f"alice-{uuid.uuid4()}")
        with writing(alice) as writes:
            assert service.stop() == 0
        assert {record["level"] for record in service.logs()} == {"INFO"}
    assert writes.refusals == []
    assert lost(database_url, alice, writes) == set()


def test_a_killed_worker_is_replaced_and_loses_no_acknowledged_task(database_url: str) -> None:
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


def test_sighup_replaces_the_workers_and_refuses_no_request(database_url: str) -> None:
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
