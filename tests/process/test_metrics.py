"""`/metrics` with METRICS=true: every worker returns the sums over all workers."""

import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from tests.support.key_server import Key, KeyServer
from tests.support.load import at_once, both_workers, every_operation, locked
from tests.support.server import ROOT, Service, run_to_end, wait_until
from todo_api import __version__

pytestmark = pytest.mark.long

LIST = "/api/<user_id>/tasks"
TASK = f"{LIST}/<task_id:task_id>"
SERIES = re.compile(r"(\w+(?:\{.*\})?) (\S+)")


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    """Start a service that has only counted requests to `/health` so far."""
    with Service(database_url, METRICS="true", TMPDIR=str(tmp_path)) as service:
        both_workers(service)
        yield service


def scraped(service: Service) -> dict[str, float]:
    """Return the value of every series in `/metrics`."""
    answer = service.send("GET", "/metrics", {}, None)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    lines = [line for line in answer.body.decode().splitlines() if not line.startswith("#")]
    return {match[1]: float(match[2]) for match in map(SERIES.fullmatch, lines) if match}


def requests(route: str, method: str, status: int) -> str:
    return f'todo_api_requests_total{{method="{method}",route="{route}",status="{status}"}}'


def counters(service: Service) -> list[Path]:
    """Return the counter files, one for each worker."""
    return list(Path(service.env["TMPDIR"]).glob("todo_metrics_*/counter_*.db"))


def test_it_works(service: Service) -> None:
    alice = service.client(f"alice-{uuid.uuid4()}")
    for operation in every_operation(alice.create()["id"]):
        alice.call(*operation)
    found = scraped(service)
    assert found[requests(LIST, "POST", 201)] == 2
    assert found[requests(f"{TASK}/complete", "PATCH", 200)] == 1
    assert found[f'todo_api_request_seconds_count{{route="{LIST}"}}'] == 3
    assert found[f'todo_api_request_seconds_bucket{{le="+Inf",route="{LIST}"}}'] == 3
    assert found[f'todo_api_request_seconds_sum{{route="{LIST}"}}'] > 0
    wait_until(lambda: scraped(service)["todo_api_pool_size"] == 2 * 8, "both workers have counted their pools")
    found = scraped(service)
    assert (found["todo_api_pool_in_use"], found["todo_api_pool_waiting"]) == (0, 0)
    assert found[f'todo_api_info{{version="{__version__}"}}'] == 1
    assert (found["todo_api_database_up"], found["todo_api_jwks_keys"]) == (1, 0)
    assert "todo_api_jwks_age_seconds" not in found


def test_counts_include_both_workers_and_survive_a_killed_worker(service: Service) -> None:
    alice = service.client(f"alice-{uuid.uuid4()}")
    name, asked = requests(LIST, "GET", 200), 0
    while not asked or len(counters(service)) < 2:  # until both workers have counted a request, perhaps only to /health
        assert at_once(alice, 100) == {200}
        asked += 100
    assert scraped(service)[name] == asked
    victim, _ = both_workers(service)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in service.workers(), "the dead worker is gone")
    both_workers(service)
    assert scraped(service)[name] == asked
    assert at_once(alice, 100) == {200}
    assert scraped(service)[name] == asked + 100
    service.process.send_signal(signal.SIGHUP)
    wait_until(lambda: service.logs("Hang up: Master"), "the master has read its configuration again")
    assert at_once(alice, 100) == {200}
    assert scraped(service)[name] == asked + 200


def test_connections_in_use_are_counted_and_those_of_a_dead_worker_removed(
    service: Service, database_url: str, sql: psycopg.Connection
) -> None:
    alice = service.client(f"alice-{uuid.uuid4()}")
    task_id = alice.create()["id"]
    with psycopg.connect(database_url) as other, ThreadPoolExecutor(1) as thread:
        other.execute("SELECT FROM tasks WHERE user_id = %s FOR UPDATE", [alice.user_id])
        patch = thread.submit(alice.call, "PATCH", f"{task_id}/complete")
        wait_until(lambda: locked(sql), "the request waits for the row")
        wait_until(lambda: scraped(service)["todo_api_pool_in_use"] >= 1, "the connection of the request is counted")
        for worker in both_workers(service):
            os.kill(worker, signal.SIGKILL)
        assert patch.exception()
        wait_until(lambda: scraped_or_nothing(service).get("todo_api_pool_in_use") == 0, "the dead worker's connection is gone")


def test_a_full_pool_is_shown_and_is_no_outage(database_url: str, tmp_path: Path, sql: psycopg.Connection) -> None:
    settings = {"DB_POOL_SIZE": "1", "WEB_CONCURRENCY": "1"}
    with Service(database_url, METRICS="true", TMPDIR=str(tmp_path), **settings) as service:
        alice = service.client(f"alice-{uuid.uuid4()}")
        path = f"{alice.create()['id']}/complete"
        with psycopg.connect(database_url) as other, ThreadPoolExecutor(2) as threads:
            other.execute("SELECT FROM tasks WHERE user_id = %s FOR UPDATE", [alice.user_id])
            requests = [threads.submit(alice.call, "PATCH", path) for _ in range(2)]
            wait_until(lambda: locked(sql), "a request waits for the row")
            wait_until(lambda: scraped(service)["todo_api_pool_waiting"] == 1, "the other request waits for the connection")
            found = scraped(service)
            other.rollback()
        assert {request.result().status for request in requests} == {200}
    assert (found["todo_api_pool_in_use"], found["todo_api_pool_size"], found["todo_api_database_up"]) == (1, 1, 1)


def scraped_or_nothing(service: Service) -> dict[str, float]:
    try:
        return scraped(service)
    except OSError:
        return {}


def test_refusals_are_counted_by_their_reason(service: Service) -> None:
    alice, bob = service.client("alice"), service.client("bob")
    for method, header in (("GET", ""), ("HEAD", ""), ("GET", "Bearer x")):
        assert alice.call(method, headers={"Authorization": header}).status == 401
    assert alice.call("HEAD", of=bob).status == 403
    reasons = {name: value for name, value in scraped(service).items() if name.startswith("todo_api_auth_failures_total")}
    assert reasons == {
        'todo_api_auth_failures_total{reason="Missing authorization token"}': 2,
        'todo_api_auth_failures_total{reason="Invalid or malformed token"}': 1,
        'todo_api_auth_failures_total{reason="Access forbidden: user_id mismatch"}': 1,
    }


def test_clients_cannot_create_labels(service: Service) -> None:
    alice = service.client("hunter2")
    alice.call("GET", "hunter2")
    for method, path in (("GET", "/hunter2"), ("HUNTER", "/health"), ("GET", "/health?hunter2"), ("HUNTER", "/hunter2")):
        service.send(method, path, {"X-Request-Id": "hunter2"}, None)
    found = scraped(service)
    assert found[requests("none", "any", 404)] == 2
    assert found[requests("none", "any", 405)] == 1
    assert found[requests(TASK, "GET", 404)] == 1
    assert "hunter" not in " ".join(found).lower()


def test_the_metrics_folder_is_removed_at_the_end(service: Service, database_url: str, tmp_path: Path) -> None:
    assert scraped(service)
    assert counters(service)
    victim, _ = both_workers(service)
    os.kill(victim, signal.SIGTERM)  # the worker then exits in the same way as the master
    wait_until(lambda: victim not in service.workers(), "the worker is gone")
    assert counters(service)
    assert service.stop() == 0
    assert list(tmp_path.glob("todo_metrics_*")) == []
    refused = run_to_end("postgresql://127.0.0.1:1/none", METRICS="true", TMPDIR=str(tmp_path))
    assert refused.returncode
    assert list(tmp_path.glob("todo_metrics_*")) == []


def test_keys_of_the_auth_server_and_their_age_are_shown(database_url: str, tmp_path: Path) -> None:
    key = Key("RS256", "one")
    del key.jwk["alg"]  # a key for RS256 and PS256 counts once
    with KeyServer(key) as server:
        settings = {"BETTER_AUTH_URL": server.origin, "WEB_CONCURRENCY": "1"}
        with Service(database_url, METRICS="true", TMPDIR=str(tmp_path), **settings) as service:
            alice = service.client("alice")
            alice.headers = {"Authorization": f"Bearer {key.token(server, {'sub': 'alice'})}"}
            assert alice.call("GET").status == 200
            found = scraped(service)
    assert found["todo_api_jwks_keys"] == 1
    assert 0 <= found["todo_api_jwks_age_seconds"] < 60


def test_requests_succeed_even_if_they_cannot_be_counted(service: Service, tmp_path: Path) -> None:
    alice = service.client(f"alice-{uuid.uuid4()}")
    (folder,) = tmp_path.glob("todo_metrics_*")
    shutil.rmtree(folder)
    folder.touch()  # so that no process can create the folder again
    for victim in both_workers(service):
        os.kill(victim, signal.SIGKILL)
    wait_until(lambda: scraped_or_nothing(service) and len(service.workers()) == 2, "the next workers respond")
    for operation in every_operation(alice.create()["id"]):
        assert alice.call(*operation).status < 300
    assert service.send("GET", "/health", {}, None).status == 200
    assert service.logs("request not counted")[0]["level"] == "ERROR"
    folder.unlink()


def test_empty_files_of_dead_processes_are_removed(service: Service, tmp_path: Path) -> None:
    (folder,) = tmp_path.glob("todo_metrics_*")
    (dead := folder / "counter_4194305.db").touch()  # larger than any process id on Linux
    (empty := folder / "gauge_livesum_4194305.db").touch()
    assert scraped(service)
    assert not dead.exists()
    assert not empty.exists()


@pytest.mark.parametrize(("value", "imported"), [("", "False"), ("true", "True")])
def test_prometheus_client_is_imported_only_with_metrics(database_url: str, value: str, imported: str) -> None:
    env = Service(database_url, METRICS=value).env
    command = [sys.executable, "-c", "import sys, wsgi; print('prometheus_client' in sys.modules)"]
    assert subprocess.check_output(command, cwd=ROOT, env=env, text=True).strip() == imported
