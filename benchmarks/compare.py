"""`make bench` compares this service with a bare WSGI callable and two FastAPI peers.

All servers run at the same time, with two processes each, on one PostgreSQL and one table. Only one server gets requests at a
time. The order rotates in each round, so that other load on the machine affects all servers. The table is filled again before
each measurement.

Environment variables:
    ROUNDS, SECONDS, WORKLOADS, SERVERS, CONNECTIONS: what to measure, and for how long.
    LATENCY_MS: the round-trip time to the database, in milliseconds.
    BENCH_DATABASE_URL: a PostgreSQL server to use instead of the embedded one.
    RESULTS: the folder for the table and the chart.
"""

import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from benchmarks import report
from benchmarks.database import database, server
from benchmarks.server import SERVERS, Server, make_token
from dev.postgres import die_with_parent
from dev.server import ROOT, free_port

CONNECTIONS = int(os.environ.get("CONNECTIONS") or 50)
USERS = 50
WORKLOADS = ("mixed", "get", "list", "toggle", "create")
FILL = """
INSERT INTO tasks (user_id, title, description, completed)
SELECT
    kind || u,
    'Task ' || n || ' of the week',
    CASE WHEN n %% 5 > 0 THEN 'A description of usual length, with "quotes" and ümläuts, no. ' || n END,
    n %% 3 = 0
FROM (VALUES ('short', 20), ('long', 100), ('doomed', 200)) AS kinds (kind, tasks)
CROSS JOIN generate_series(1, %s) AS u CROSS JOIN generate_series(1, tasks) AS n
ORDER BY n, md5(u::text)
"""


@contextlib.contextmanager
def away(url: str, milliseconds: float) -> Iterator[str]:
    """Start a proxy that adds this round-trip time to the database. Yield the URL through the proxy."""
    if not milliseconds:
        yield url
        return
    place, port = conninfo_to_dict(url), free_port()
    there = [str(place.get("host", "localhost")), str(place.get("port", 5432))]
    command = [sys.executable, "-m", "benchmarks.delay", str(port), str(milliseconds), *there]
    proxy = subprocess.Popen(command, cwd=ROOT, preexec_fn=die_with_parent)
    try:
        parts = urlsplit(url)
        credentials = parts.netloc.rpartition("@")[0]
        kept = "&".join(pair for pair in parts.query.split("&") if not pair.startswith(("host=", "port=")))
        yield parts._replace(netloc=f"{credentials}@127.0.0.1:{port}", query=kept).geturl()
    finally:
        proxy.terminate()
        proxy.wait()


def fill(url: str) -> dict[str, list[Any]]:
    """Replace all tasks with the same initial tasks. Return, for each kind of user, the name, token and task ids of each user."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("TRUNCATE tasks RESTART IDENTITY")
        conn.execute(FILL, [USERS])
        conn.execute("VACUUM ANALYZE tasks")
        ids = {user: ids for user, *ids in conn.execute("SELECT user_id, array_agg(id ORDER BY id) FROM tasks GROUP BY user_id")}
    kinds = {kind: [f"{kind}{number}" for number in range(1, USERS + 1)] for kind in ("new", "short", "long", "doomed")}
    return {kind: [(user, make_token(user), *ids.get(user, [[]])) for user in users] for kind, users in kinds.items()}


def measure(server: Server, job: dict[str, Any]) -> dict[str, float]:
    """Run load.py with the job and return its result. Raise SystemExit with its last line if it fails, as on a wrong response."""
    command, text = [sys.executable, "-m", "benchmarks.load"], json.dumps({**job, "port": server.port})
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{server.name}, {job['workload']}: {done.stderr.strip().splitlines()[-1]}")
    result: dict[str, float] = json.loads(done.stdout)
    return result


def progress(done: int, of: int, what: str) -> None:
    """Draw a progress bar on one line of stderr if that is a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K[{'#' * (30 * done // of):30}] {done}/{of} {what}", end="\n" * (done == of), file=sys.stderr, flush=True)


def compare(url: str, database_pid: int | None) -> list[report.Row]:
    """Measure all servers. Return the measurements in the order of the servers."""
    names = chosen("SERVERS", SERVERS)
    rounds, seconds = int(os.environ.get("ROUNDS") or 3), float(os.environ.get("SECONDS") or 3)
    rows: list[report.Row] = []
    with contextlib.ExitStack() as stack:
        far = stack.enter_context(away(url, float(os.environ.get("LATENCY_MS") or 0)))
        servers = [stack.enter_context(Server(name, far)) for name in names]
        for each in servers:
            each.check()
        turns = [
            (workload, turn, servers[(turn + place) % len(servers)])
            for workload in chosen("WORKLOADS", WORKLOADS) for turn in range(rounds) for place in range(len(servers))
        ]  # fmt: skip
        for number, (workload, turn, each) in enumerate(turns):
            progress(number, len(turns), f"{workload}: {each.name}")
            pids = {"server_cpu": each.process.pid} | ({"database_cpu": database_pid} if database_pid else {})
            job = {"workload": workload, "seed": turn, "seconds": seconds, "connections": CONNECTIONS, "pids": pids}
            result = measure(each, {**job, "users": fill(url)})
            rows.append({"server": each.name, "workload": workload, "round": turn, "memory": each.memory(), **result})
        progress(len(turns), len(turns), "done")
    return sorted(rows, key=lambda row: names.index(row["server"]))


def chosen(variable: str, known: Iterable[str]) -> list[str]:
    """Return the names in a comma-separated environment variable, by default all known ones. Raise SystemExit for others."""
    names = (os.environ.get(variable) or ",".join(known)).split(",")
    if unknown := set(names) - set(known):
        raise SystemExit(f"{variable}: unknown {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return names


def circumstances(url: str, rows: list[report.Row]) -> str:
    """Return a Markdown list of the machine, versions and settings of the measurements."""
    with psycopg.connect(url) as conn:
        version = conn.execute("SELECT current_setting('server_version'), current_setting('fsync')").fetchone() or ("?", "?")
    pins = [(ROOT / name).read_text().partition("\n\n")[0] for name in ("requirements.txt", "benchmarks/requirements.txt")]
    packages = dict.fromkeys(line.replace("==", " ") for text in pins for line in text.splitlines() if "==" in line)
    memory = ", ".join(
        f"{name} {report.median(rows, name, rows[0]['workload'], 'memory'):.0f}" for name in report.names(rows, "server")
    )
    generator = statistics.median(row["generator"] for row in rows)
    others = [row["others"] * row["rate"] / 1e6 for row in rows]
    return "\n".join(
        [
            f"- {os.cpu_count()} cores for servers, database and load generator, {platform.system()} {platform.machine()}, "
            f"Python {platform.python_version()}, PostgreSQL {version[0]} with fsync {version[1]}, "
            f"{os.environ.get('LATENCY_MS') or 0} ms away",
            f"- {CONNECTIONS} keep-alive connections, 2 processes per server, {1 + max(row['round'] for row in rows)} rounds of "
            f"{os.environ.get('SECONDS') or 3} s. The numbers are medians. The last column is the median of the ratios of all "
            "rounds (minimum to maximum)",
            f"- the load generator takes {generator:.0f} µs of CPU per request for every server; other processes on the machine "
            f"(such as the proxy of LATENCY_MS) took {statistics.median(others):.1f} cores, at most {max(others):.1f}",
            f"- MB of memory (PSS): {memory}",
            f"- {', '.join(packages)}",
        ]
    )


def main() -> None:
    results = ROOT / (os.environ.get("RESULTS") or "benchmarks/results")
    results.mkdir(parents=True, exist_ok=True)
    with server("max_connections=200") as (server_url, pid), database(server_url) as url:
        rows = compare(url, pid)
        text = f"{report.table(rows)}\n\n{circumstances(url, rows)}\n"
    (results / "results.md").write_text(text)
    (results / "results.svg").write_text(report.chart(rows))
    print(text)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the servers are stopped
    main()
