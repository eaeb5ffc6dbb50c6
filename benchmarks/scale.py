"""`make bench-scale` measures the statements of `sql/` on 10,000 tasks, on 10,000,000 tasks, and on one user's long list.

One client runs the statements as the service does (prepared, in autocommit) for random users. Each user has 100 tasks. They are
stored as far apart as possible: the first task of every user, then the second task of every user, and so on.

Environment variables:
    TASKS: the number of tasks in the large table, by default 10,000,000.
    BENCH_DATABASE_URL: a PostgreSQL server to use instead of the embedded one.
"""

import functools
import json
import os
import random
import signal
import statistics
import time
from collections.abc import Callable
from hashlib import md5
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.compare import progress
from benchmarks.database import database, server
from benchmarks.server import make_token
from dev.server import environment
from todo_api import create_app
from todo_api.config import Config
from todo_api.connection import Connection
from todo_api.statements import SQL, Statement, read_statement

CALLS = 2000
EACH = 100  # tasks of a user
CHUNK = 500_000
ANY = {
    "status": "all", "search": "", "sort": "created_at", "order": "asc", "after": "", "offset": "0", "limit": "", "body": "{}",
    "if_match": "*", "flip": "false", "attempt": "1", "idempotency_key": "",
}  # fmt: skip
FILL = """
INSERT INTO tasks (user_id, title, description, completed)
SELECT
    md5(((n - 1) %% %(users)s)::text),
    'Task ' || n || ' of the week',
    CASE WHEN n %% 5 > 0 THEN 'A description of usual length, with "quotes" and ümläuts, no. ' || n END,
    n %% 3 = 0
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
"""
SIZES = "SELECT pg_size_pretty(pg_table_size('tasks')), pg_size_pretty(pg_indexes_size('tasks'))"
HOT = "SELECT 100.0 * n_tup_hot_upd / n_tup_upd FROM pg_stat_user_tables WHERE relname = 'tasks'"
Call = tuple[str, dict[str, str]]


def connect(url: str) -> Connection:
    return Connection.connect(url, prepare="on")


@functools.cache
def named(name: str) -> Statement:
    return read_statement(SQL / f"{name}.sql")


def run(conn: Connection, name: str, values: dict[str, str]) -> Any:
    row = conn.fetch_row(named(name), ANY | values)
    assert row, (name, values)
    return row[0]


def fill(url: str, tasks: int, users: int) -> None:
    # Insert while the indexes exist, so that their pages are as full as in production. CREATE INDEX would pack them tighter.
    with psycopg.connect(url, autocommit=True) as conn:
        for first in range(1, tasks + 1, CHUNK):
            progress(first - 1, tasks, "tasks")
            conn.execute(FILL, {"users": users, "first": first, "last": min(first + CHUNK - 1, tasks)})
        progress(tasks, tasks, "tasks")
        conn.execute("VACUUM ANALYZE tasks")


def calls(tasks: int) -> dict[str, Callable[[], Call]]:
    """Return for each operation a function that returns a random call."""
    users, rng = tasks // EACH, random.Random(1)

    def one(name: str, **values: str) -> Call:
        user = rng.randrange(users)
        # With a limit, choose from the first half of the tasks, so that a full page follows the task.
        task_id = user + 1 + users * rng.randrange(EACH // 2 if "limit" in values else EACH)
        after = {"after": str(task_id)} if "limit" in values else {}
        return name, {
            "user_id": md5(str(user).encode(), usedforsecurity=False).hexdigest(),
            "task_id": str(task_id),
            **values,
            **after,
        }

    body = json.dumps({"title": "Buy milk", "description": "two litres, from the small shop at the corner, before noon"})
    return {
        "get": lambda: one("get_task"),
        "list of 100": lambda: one("list_tasks"),
        "page of 20": lambda: one("list_tasks", limit="20"),
        "toggle": lambda: one("update_task", flip="true"),
        "create": lambda: one("create_task", body=body),
    }


def processor(conn: Connection) -> float:
    """Return the CPU seconds that the connection's server process has used, or 0 if BENCH_DATABASE_URL is set."""
    path = Path(f"/proc/{conn.info.backend_pid}/schedstat")
    return 0 if os.environ.get("BENCH_DATABASE_URL") else int(path.read_text().split()[0]) / 1e9


def measure(conn: Connection, call: Callable[[], Call], count: int = CALLS) -> tuple[float, float, float]:
    """Return a call's median and 99th percentile in milliseconds, and its CPU time in the database in microseconds."""
    for _ in range(count // 10):
        run(conn, *call())
    took, before = [], processor(conn)
    for _ in range(count):
        name, values = call()
        since = time.perf_counter()
        run(conn, name, values)
        took.append((time.perf_counter() - since) * 1e3)
    percentiles = statistics.quantiles(took, n=100)
    return percentiles[49], percentiles[98], (processor(conn) - before) / count * 1e6


def buffers(conn: Connection, call: Callable[[], Call]) -> float:
    """Return how many 8 kB pages a call touches: the median of 20 calls."""
    counts: list[float] = []
    for _ in range(20):
        name, values = call()
        text, parameters = named(name)
        explain = Statement(b"EXPLAIN (ANALYZE, BUFFERS, FORMAT json) " + text, parameters)
        row = conn.fetch_row(explain, ANY | values)
        assert row
        counts.append(row[0][0]["Plan"]["Shared Hit Blocks"] + row[0][0]["Plan"]["Shared Read Blocks"])
    return statistics.median(counts)


def growth(server_url: str, sizes: tuple[int, ...]) -> None:
    found, places = [], []
    for tasks in sizes:
        with database(server_url) as url:
            fill(url, tasks, tasks // EACH)
            with connect(url) as conn:
                places.append(conn.execute(SIZES).fetchone())
                found.append({name: (*measure(conn, call), buffers(conn, call)) for name, call in calls(tasks).items()})
    few, many = (f"{tasks:,}" for tasks in sizes)
    print(f"\n| {few} tasks, {many} tasks | p50 ms | ratio | p99 ms | database CPU µs | ratio | pages |\n{'|---' * 7}|")
    for name, a in found[0].items():
        b = found[1][name]
        ratios = [f"{b[each] / a[each]:.2f}" if a[each] else "" for each in (0, 2)]
        print(
            f"| {name} | {a[0]:.2f}, {b[0]:.2f} | {ratios[0]} | {a[1]:.2f}, {b[1]:.2f} "
            f"| {a[2]:.0f}, {b[2]:.0f} | {ratios[1]} | {a[3]:.0f}, {b[3]:.0f} |"
        )
    for tasks, place in zip(sizes, places, strict=True):
        print(f"\n{tasks:,} tasks: table {place[0]}, indexes {place[1]}" if place else "")


def fillfactors(server_url: str, tasks: int = 100_000) -> None:
    print(
        f"\n| fillfactor | HOT updates in {tasks:,} toggles on {tasks:,} tasks | table, indexes before | after |\n{'|---' * 4}|"
    )
    for fillfactor in (100, 90, 80):
        with database(server_url) as url, connect(url) as conn:
            conn.execute(f"ALTER TABLE tasks SET (fillfactor = {fillfactor})".encode())
            fill(url, tasks, tasks // EACH)
            before = conn.execute(SIZES).fetchone()
            conn.execute("SET synchronous_commit = off")  # faster, with the same share of HOT updates
            toggle = calls(tasks)["toggle"]
            for _ in range(tasks):
                run(conn, *toggle())
            conn.execute("SELECT pg_stat_force_next_flush()")
            ((share,),) = conn.execute(HOT).fetchall()
            after = conn.execute(SIZES).fetchone()
            print(f"| {fillfactor} | {share:.0f} % | {', '.join(before or ())} | {', '.join(after or ())} |")


def lists(server_url: str) -> None:
    """Measure lists of different lengths. The service runs in this process, so its CPU time is that of this process."""
    print("\n| tasks of one user | kB | database CPU µs | per task | service CPU µs | per task |\n|---|---|---|---|---|---|")
    with database(server_url) as url, connect(url) as conn:
        app = create_app(Config.from_env(environment(url)))
        client = app.test_client()
        for tasks in (20, 100, 1_000, 10_000):
            conn.execute("TRUNCATE tasks")
            fill(url, tasks, 1)
            user, count = md5(b"0", usedforsecurity=False).hexdigest(), max(20, 200_000 // tasks // 10)
            *_, own = measure(conn, lambda: ("list_tasks", {"user_id": user}), count)  # noqa: B023  # called before `user` changes
            path, headers = f"/api/{user}/tasks", {"Authorization": f"Bearer {make_token(user)}"}
            assert len(client.get(path, headers=headers).json or []) == tasks
            since = time.process_time()
            bodies = [len(client.get(path, headers=headers).data) for _ in range(count)]
            service = (time.process_time() - since) / count * 1e6
            print(
                f"| {tasks:,} | {bodies[0] / 1000:.1f} | {own:.0f} | {own / tasks:.2f} | {service:.0f} | {service / tasks:.2f} |"
            )
        app.extensions["pool"].close()


def main() -> None:
    with server("shared_buffers=1GB", "max_wal_size=8GB") as (url, _):
        growth(url, (10_000, int(os.environ.get("TASKS") or 10_000_000)))
        fillfactors(url)
        lists(url)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the server is stopped
    main()
