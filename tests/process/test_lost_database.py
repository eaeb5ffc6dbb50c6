"""A database that stops, restarts or is slow: requests get a 503 in that time, and the service needs no restart."""

import signal
import uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from dev.postgres import Postgres
from tests.support.client import Client, application, in_process
from tests.support.load import at_once, both_workers, every_operation, is_unavailable, locked, lost, writing
from tests.support.server import Service, wait_until
from todo_api.migrations import migrate

pytestmark = pytest.mark.long

FAST_STOP, CRASH = signal.SIGINT, signal.SIGQUIT


def test_an_outage_is_503_for_every_operation_and_ends_without_a_restart(postgres: Postgres) -> None:
    with Service(postgres.create("todo")) as service, ThreadPoolExecutor(6) as threads:
        alice = service.client("alice")
        task_id, workers = alice.create()["id"], both_workers(service)
        assert at_once(alice, 100) == {200}
        postgres.stop(FAST_STOP)
        pending = [threads.submit(alice.call, *operation) for operation in every_operation(task_id)]
        assert service.send("GET", "/health", {}, None).status == 200
        assert alice.call("GET", headers={"Authorization": ""}).status == 401
        assert all(is_unavailable(each.result()) for each in pending)
        begins = service.logs("database unavailable")
        assert 1 <= len(begins) <= 2  # one for each worker that had a failed request
        assert {record["level"] for record in begins} == {"WARNING"}
        assert all(str(postgres.socket) in record["host"] and "failed" in record["cause"] for record in begins)
        postgres.start()
        assert at_once(alice, 100) == {200}
        assert [task["title"] for task in alice.list()] == ["Buy milk"]
        assert service.workers() == workers
        ends = service.logs("database available again")
        assert {record["pid"] for record in ends} == {record["pid"] for record in begins}
        assert sum(record["failed_requests"] for record in ends) == len(pending)
        assert all(record["seconds"] > 0 for record in ends)


@pytest.mark.parametrize("how", [FAST_STOP, CRASH], ids=["restart", "crash"])
def test_a_database_restart_between_requests_fails_no_request(postgres: Postgres, how: signal.Signals) -> None:
    with Service(postgres.create("todo")) as service:
        alice, workers = service.client("alice"), both_workers(service)
        for _ in range(3):
            assert at_once(alice, 100) == {200}
            postgres.stop(how)
            postgres.start()
        assert at_once(alice, 100) == {200}
        assert service.logs("database unavailable") == []
        assert service.workers() == workers


def test_a_crash_under_load_loses_no_acknowledged_task(postgres: Postgres) -> None:
    url = postgres.create("todo")
    with Service(url) as service:
        alice, workers = service.client("alice"), both_workers(service)
        with writing(alice) as writes:
            postgres.stop(CRASH)
            wait_until(lambda: writes.refusals, "a create is refused")
            postgres.start()
            writes.wait_for_more()
        assert (set(writes.refusals), writes.broken) == ({503}, [])
        assert lost(url, alice, writes) == set()
        assert service.logs("unhandled error") == []
        assert service.workers() == workers


def test_a_locked_row_is_503_and_delays_no_other_request(service: Service, database_url: str, sql: psycopg.Connection) -> None:
    alice, bob = (service.client(f"{name}-{uuid.uuid4()}") for name in ("alice", "bob"))
    path = f"{alice.create()['id']}/complete"
    with psycopg.connect(database_url) as other, ThreadPoolExecutor(1) as thread:
        other.execute("SELECT FROM tasks WHERE user_id = %s FOR UPDATE", [alice.user_id])
        patch = thread.submit(alice.call, "PATCH", path)
        wait_until(lambda: locked(sql), "the request waits for the row")
        for _ in range(5):
            bob.create()
            assert len(alice.list()) == 1
            assert bob.call("PATCH", f"{bob.list()[0]['id']}/complete").status == 200
        assert not patch.done()
        assert is_unavailable(patch.result())
    assert alice.call("PATCH", path).status == 200
    (record,) = [record for record in service.logs("database error") if alice.user_id in record["path"]]
    assert (record["error"], record["method"]) == ("LockNotAvailable", "PATCH")
    assert record["cause"] == "canceling statement due to lock timeout"


def test_a_changed_password_is_the_cause_in_the_log(postgres: Postgres) -> None:
    url = postgres.create("todo")
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("CREATE ROLE todo LOGIN PASSWORD 'hunter2'")
        conn.execute("ALTER DATABASE todo OWNER TO todo")
        (postgres.data / "pg_hba.conf").write_text("local all postgres trust\nlocal all todo scram-sha-256\n")
        conn.execute("SELECT pg_reload_conf()")
        with Service(url.replace("//postgres@", "//todo:hunter2@"), WEB_CONCURRENCY="1") as service:
            alice = service.client("alice")
            alice.create()
            conn.execute("ALTER ROLE todo PASSWORD 'hunter3'")
            conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'todo'")
            left = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'todo'"
            wait_until(lambda: conn.execute(left).fetchone() == (0,), "the service has no connection")
            wait_until(lambda: alice.call("GET").status == 503, "a request fails")
            (record,) = service.logs("database unavailable")
            assert 'password authentication failed for user "todo"' in record["cause"]
            assert (record["host"], record["port"]) == (str(postgres.socket), "5432")
            assert "hunter" not in service.text()
            conn.execute("ALTER ROLE todo PASSWORD 'hunter2'")
            wait_until(lambda: alice.call("GET").status == 200, "a request succeeds")
            (record,) = service.logs("database available again")
            assert record["failed_requests"] >= 1


FAIL_AT_COMMIT = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'failed' USING ERRCODE = '{}'; END $$;
CREATE CONSTRAINT TRIGGER fail AFTER INSERT OR UPDATE OR DELETE ON tasks DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION fail()
"""


@pytest.mark.parametrize("sqlstate", ["40001", "XX000"])
@pytest.mark.parametrize("key", ["", "k"])
def test_a_commit_that_fails_is_a_503(empty_database: str, sqlstate: str, key: str) -> None:
    migrate(empty_database)
    with application(empty_database) as app, psycopg.connect(empty_database, autocommit=True) as conn:
        alice = Client(in_process(app), "alice")
        task = alice.create()
        conn.execute(FAIL_AT_COMMIT.format(sqlstate))
        assert is_unavailable(alice.call("POST", body={"title": "lost"}, headers={"Idempotency-Key": key}))
        assert is_unavailable(alice.call("PATCH", f"{task['id']}/complete"))
        assert is_unavailable(alice.call("DELETE", task["id"]))
        assert alice.list() == [task]


TERMINATE = "SELECT pg_sleep(0.01), pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'todo_api'"


def test_terminated_backends_lose_no_acknowledged_task(postgres: Postgres) -> None:
    url = postgres.create("todo")
    with Service(url) as service, psycopg.connect(url, autocommit=True) as conn:
        alice = service.client("alice")
        with writing(alice) as writes:
            for _ in range(5):
                enough = len(writes.ids) + 100
                while len(writes.ids) < enough:
                    conn.execute(TERMINATE)
        assert (set(writes.refusals) <= {503}, writes.broken) == (True, [])
        assert lost(url, alice, writes) == set()
