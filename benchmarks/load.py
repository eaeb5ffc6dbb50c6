"""Sends requests to one server over keep-alive connections. A connection sends its next request after each response.

It runs in its own process and uses plain sockets to save CPU, because it shares the processors with the server. It takes about
60 µs per request. wrk takes less, but pip cannot install it, and it does not check the responses. At the first wrong response,
this script prints a line to stderr and exits.

It reads a job as JSON from stdin and writes the result as JSON to stdout.
"""

import contextlib
import itertools
import json
import random
import re
import select
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from os import sysconf
from pathlib import Path
from typing import Any

from dev.server import ORIGIN

WARM_UP_SECONDS = 1
MIX = ["list"] * 40 + ["get"] * 20 + ["create"] * 15 + ["update"] * 10 + ["toggle"] * 10 + ["delete"] * 5
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class Request:
    """The bytes to send, and how to check the response: it must have this status and contain `text` exactly `times` times."""

    raw: bytes
    status: bytes
    text: bytes
    times: int = 1

    def right(self, head: bytes, body: bytes) -> bool:
        return head.split(b" ", 2)[1:2] == [self.status] and body.count(self.text) == self.times


def requests(workload: str, users: dict[str, list[Any]], rng: random.Random) -> Iterator[Request]:
    """Yield an endless series of requests from random users for their own tasks."""
    doomed = [(user, token, task_id) for user, token, ids in users["doomed"] for task_id in ids]
    rng.shuffle(doomed)

    def request(method: str, user: str, token: str, tail: object = "", body: object = None) -> bytes:
        head = f"{method} /api/{user}/tasks{tail} HTTP/1.1\r\nHost: x\r\nOrigin: {ORIGIN}\r\nAuthorization: Bearer {token}\r\n"
        if body is None:
            return f"{head}\r\n".encode()
        text = json.dumps(body)
        return f"{head}Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()

    for number in itertools.count():
        kind = rng.choice(MIX) if workload == "mixed" else workload
        if kind == "list":
            user, token, ids = rng.choice(users["short" if workload == "mixed" else "long"])
            yield Request(request("GET", user, token), b"200", b'"user_id":"%b"' % user.encode(), len(ids))
        elif kind == "create":
            user, token, _ = rng.choice(users["new"])
            task = {"title": f"Buy milk {number}", "description": "two litres, from the small shop at the corner, before noon"}
            yield Request(request("POST", user, token, body=task), b"201", b'"title":"%b"' % task["title"].encode())
        elif kind == "delete" and doomed:
            user, token, task_id = doomed.pop()
            yield Request(request("DELETE", user, token, f"/{task_id}"), b"204", b"{", 0)
        else:
            user, token, ids = rng.choice(users["long"])
            task_id = rng.choice(ids)
            if kind == "update":
                change = {"title": f"Renamed {number}", "completed": True}
                yield Request(request("PUT", user, token, f"/{task_id}", change), b"200", b'"title":"Renamed %d"' % number)
            elif kind == "toggle":
                yield Request(request("PATCH", user, token, f"/{task_id}/complete"), b"200", b'"id":%d,' % task_id)
            else:
                yield Request(request("GET", user, token, f"/{task_id}"), b"200", b'"id":%d,' % task_id)


def cpu(pid: int) -> float:
    """Return the CPU seconds that a process and its children have used."""
    used = 0
    for each in (str(pid), *Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # autovacuum processes start and end
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            used += int(fields[11]) + int(fields[12])
    return used / sysconf("SC_CLK_TCK")


def busy() -> float:
    """Return the CPU seconds that the whole machine has used."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / sysconf("SC_CLK_TCK")  # without idle and iowait


class Connection:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setblocking(False)

    def send(self, request: Request) -> None:
        self.request, self.received, self.since = request, b"", time.perf_counter()
        self.socket.sendall(request.raw)

    def answered(self) -> bool:
        """Read what has arrived. Return whether the response is complete. Raise SystemExit if it is wrong."""
        data = self.socket.recv(1 << 18)
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if data and (not end or (length and len(body) < int(length[1]))):
            return False
        if not self.request.right(head, body):
            raise SystemExit(f"wrong answer to {self.request.raw.partition(b' HTTP')[0]!r}: {self.received[:500]!r}")
        return True


def run(job: dict[str, Any]) -> dict[str, float]:
    todo = requests(job["workload"], job["users"], random.Random(job["seed"]))
    poll, connections = select.epoll(), {}
    for _ in range(job["connections"]):
        connection = Connection(job["port"])
        connections[connection.socket.fileno()] = connection
        poll.register(connection.socket, select.EPOLLIN)
        connection.send(next(todo))

    def until(deadline: float) -> list[float]:
        """Send requests until the deadline. Return the seconds that each response took."""
        seconds = []
        while time.perf_counter() < deadline:
            ready = poll.poll(10)
            if not ready:
                raise SystemExit("no response for 10 s")
            for number, _ in ready:
                connection = connections[number]
                if connection.answered():
                    seconds.append(time.perf_counter() - connection.since)
                    connection.send(next(todo))
        return seconds

    def used() -> dict[str, float]:
        each = {name: cpu(pid) for name, pid in job["pids"].items()} | {"generator": time.process_time()}
        return {**each, "others": busy() - sum(each.values())}

    until(time.perf_counter() + WARM_UP_SECONDS)
    began, before = time.perf_counter(), used()
    took = until(began + job["seconds"])
    elapsed, after = time.perf_counter() - began, used()
    spent = {name: (after[name] - before[name]) / len(took) * 1e6 for name in after}
    p = [seconds * 1e3 for seconds in statistics.quantiles(took, n=100)]
    return {"rate": len(took) / elapsed, "p50": p[49], "p99": p[98], **spent}


if __name__ == "__main__":
    print(json.dumps(run(json.load(sys.stdin))))
