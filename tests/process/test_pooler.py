"""The service behind a real PgBouncer in transaction mode: requests are correct on whatever server connection they get."""

from __future__ import annotations

import contextlib
import queue
import random
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from dev.postgres import Postgres
from tests.support.client import Client, Response, application, in_process
from tests.support.load import at_once, both_workers, every_operation, is_unavailable
from tests.support.pgbouncer import SERVER_CONNECTIONS, PgBouncer
from tests.support.server import Service, wait_until

pytestmark = pytest.mark.long

USERS, THREADS = 50, 32
WORDS = ["Buy milk", "日本語", "100 %", "a'b\"c\\d", "x" * 200, " y ", "a\u2028b"]


Task = dict[str, Any]


@dataclass
class User:
    """A user who sends random requests and compares the responses with a model.

    Attributes:
        tasks: the tasks that the user must have now, by id, oldest first.
        strangers: ids of tasks that the user does not have.
        differences: the responses that differ from the expected ones.
    """

    client: Client
    random: random.Random
    tasks: dict[int, Task] = field(default_factory=dict)
    strangers: list[int] = field(default_factory=lambda: [2**53 - 1])
    differences: list[object] = field(default_factory=list)

    def act(self) -> None:
        own = self.random.random() < 0.9 and self.tasks
        task = self.random.choice(list(self.tasks.values())) if own else {"id": self.random.choice(self.strangers)}
        operations: list[Callable[[Task], None]] = [self.list, self.get, self.create, self.update, self.toggle, self.delete]
        self.random.choice(operations)(task)

    def list(self, _: Task) -> None:
        self.compare(self.client.call("GET"), 200, [*self.tasks.values()])

    def create(self, _: Task) -> None:
        fields = {**self.some_fields(), "title": self.random.choice(WORDS)}
        answer = self.client.call("POST", body=fields)
        made: Task = answer.json if answer.status == 201 else {"id": 0, "created_at": ""}
        known = {name: made[name] for name in ("id", "created_at")}
        defaults = {"user_id": self.client.user_id, "description": None, "completed": False, "updated_at": made["created_at"]}
        self.compare(answer, 201, {**defaults, **fields, **known})
        if made["id"] > max(self.tasks, default=0):
            self.tasks[made["id"]] = made
        else:
            self.differences.append(("not the highest id", made))

    def get(self, task: Task) -> None:
        self.compare(self.client.call("GET", task["id"]), 200, self.tasks.get(task["id"]))

    def update(self, task: Task) -> None:
        fields = self.some_fields()
        self.change(self.client.call("PUT", task["id"], fields), task, fields)

    def toggle(self, task: Task) -> None:
        self.change(self.client.call("PATCH", f"{task['id']}/complete"), task, {"completed": not task.get("completed")})

    def delete(self, task: Task) -> None:
        answer = self.client.call("DELETE", task["id"])
        if self.tasks.pop(task["id"], None) is None:
            self.compare(answer, 404, None)
        elif (answer.status, answer.body) != (204, b""):
            self.differences.append((answer, task))
        else:
            self.strangers.append(task["id"])

    def change(self, answer: Response, task: Task, fields: Task) -> None:
        expected = None
        if task["id"] in self.tasks:
            time = answer.json["updated_at"] if answer.status == 200 else ""
            expected = self.tasks[task["id"]] = {**task, **fields, "updated_at": max(time, task["updated_at"])}
        self.compare(answer, 200, expected)

    def compare(self, answer: Response, status: int, expected: object) -> None:
        """Record the response if it differs from the expected one. If `expected` is None, expect a 404."""
        found: object = (answer.status, answer.json)
        if found != ((404, {"detail": "Task not found"}) if expected is None else (status, expected)):
            self.differences.append((answer, expected))

    def some_fields(self) -> Task:
        values: dict[str, list[Any]] = {"title": WORDS, "description": [None, "", *WORDS], "completed": [True, False]}
        return {name: self.random.choice(choice) for name, choice in values.items() if self.random.random() < 0.5}


def differences(service: Service, database_url: str, requests: int) -> list[object]:
    """Send that many random requests of 50 users from 32 threads. Return the differences from the model.

    The requests of one user are sent one after the other, each from any free thread.
    """
    users = [User(service.client(f"user-{number}"), random.Random(number)) for number in range(USERS)]
    idle: queue.SimpleQueue[User] = queue.SimpleQueue()
    for user in users:
        idle.put(user)

    def act(_: int) -> None:
        user = idle.get()
        try:
            user.act()
        finally:
            idle.put(user)

    with ThreadPoolExecutor(THREADS) as threads:
        for _ in threads.map(act, range(requests)):
            pass
    for user in users:
        user.list({})
    with psycopg.connect(database_url) as conn:
        stored = {task_id for (task_id,) in conn.execute("SELECT id FROM tasks")}
    strays = stored ^ {task_id for user in users for task_id in user.tasks}
    return [difference for user in users for difference in user.differences] + sorted(strays)


@pytest.fixture
def pooler(empty_database: str) -> Iterator[PgBouncer]:
    with PgBouncer(empty_database) as pooler:
        yield pooler


def test_2000_requests_through_pgbouncer_match_a_model(pooler: PgBouncer, empty_database: str) -> None:
    with Service(pooler.url()) as service:
        assert differences(service, empty_database, 2000) == []


@pytest.mark.parametrize("prepare", ["off", "on"])
def test_requests_on_direct_connections_match_a_model(empty_database: str, prepare: str) -> None:
    with Service(empty_database, DB_PREPARE=prepare) as service:
        assert differences(service, empty_database, 500) == []


def test_pgbouncer_is_detected_and_no_statement_is_prepared(pooler: PgBouncer) -> None:
    before = pooler.on_each_server("SELECT pg_backend_pid()")
    with Service(pooler.url()) as service:
        (record,) = service.logs("todo_api starts")
        assert record["database"]["connection"] == "pooler"
        alice = service.client("alice")
        alice.create()
        assert at_once(alice, 100) == {200}
        counts = pooler.on_each_server("SELECT pg_backend_pid(), count(*) FROM pg_prepared_statements")
    assert sorted(counts) == sorted((pid, 0) for (pid,) in before)
    assert len(set(before)) == SERVER_CONNECTIONS


@pytest.mark.parametrize(("prepare", "prepared"), [("auto", ["create_task", "list_tasks"]), ("off", [])])
def test_on_a_direct_connection_each_statement_is_prepared_once(database_url: str, prepare: str, prepared: list[str]) -> None:
    with application(database_url, DB_POOL_SIZE="1", DB_PREPARE=prepare) as app:
        alice = Client(in_process(app), f"alice-{uuid.uuid4()}")
        for _ in range(3):
            alice.create()
            alice.list()
        with app.extensions["pool"].connection() as conn:
            names = conn.execute("SELECT substring(statement FROM '^\\w+ /. (\\w+) ./') FROM pg_prepared_statements").fetchall()
    assert sorted(name for (name,) in names if name) == prepared


@pytest.mark.parametrize("pooled", [True, False], ids=["pooled", "direct"])
def test_times_are_utc_although_the_database_has_another_zone(
    empty_database: str, monkeypatch: pytest.MonkeyPatch, pooled: bool
) -> None:
    zone = [("Asia/Tokyo",)]
    monkeypatch.delenv("PGTZ", raising=False)
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute(f"ALTER DATABASE {conn.info.dbname} SET timezone TO 'Asia/Tokyo'")
    with contextlib.ExitStack() as stack:
        pooler = stack.enter_context(PgBouncer(empty_database)) if pooled else None
        service = stack.enter_context(Service(pooler.url() if pooler else empty_database))
        alice = service.client("alice")
        task_id = alice.create()["id"]
        operations: list[tuple[Any, ...]] = [
            ("POST", "", {"title": "Buy bread"}),
            ("GET", task_id),
            ("GET", ""),
            ("PUT", task_id, {}),
            ("PATCH", f"{task_id}/complete"),
        ]
        for operation in operations * 3:
            if pooler:  # another client with another time zone has just used every server connection
                assert pooler.on_each_server("SHOW timezone") == zone * SERVER_CONNECTIONS
            found = alice.call(*operation).json
            tasks = found if isinstance(found, list) else [found]
            assert all(task[time].endswith("+00:00") for task in tasks for time in ("created_at", "updated_at")), tasks


def test_a_database_that_is_down_behind_pgbouncer_is_503_until_it_is_back(postgres: Postgres) -> None:
    with PgBouncer(postgres.create("todo")) as pooler, Service(pooler.url()) as service, ThreadPoolExecutor(6) as threads:
        alice = service.client("alice")
        task_id, workers = alice.create()["id"], both_workers(service)
        assert at_once(alice, 100) == {200}
        postgres.stop()
        pending = [threads.submit(alice.call, *operation) for operation in every_operation(task_id)]
        assert service.send("GET", "/health", {}, None).status == 200
        assert all(is_unavailable(each.result()) for each in pending)  # PgBouncer alone would wait two minutes
        assert is_unavailable(alice.call("GET"))
        postgres.start()
        wait_until(lambda: alice.call("GET").status == 200, "tasks are served again")
        assert at_once(alice, 100) == {200}
        assert [task["title"] for task in alice.list()] == ["Buy milk"]
        assert service.logs("unhandled error") == []
        assert service.workers() == workers
