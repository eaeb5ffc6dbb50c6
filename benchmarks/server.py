"""The servers that `make bench` compares."""

import http.client
import json
import re
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import jwt

from dev.server import ORIGIN, SECRET, ApiServer

FASTAPI = [".venv-bench/bin/python", "-m", "uvicorn", "--app-dir", "benchmarks/peers", "--loop", "uvloop", "--http", "httptools"]
FASTAPI += ["--no-access-log", "--log-level", "warning", "--port", "{port}"]
SERVERS = {
    "todo_api": [sys.executable, "-m", "gunicorn", "wsgi:app", "--bind", "127.0.0.1:{port}"],
    "wsgi_limit": [sys.executable, "-m", "gunicorn", "benchmarks.peers.wsgi_limit:app", "--bind", "127.0.0.1:{port}"],
    "fastapi_asyncpg": [*FASTAPI, "fastapi_asyncpg:app"],
    "fastapi_sqlmodel": [*FASTAPI, "fastapi_sqlmodel:app"],
}


class Answer(NamedTuple):
    status: int
    origin: str | None  # Access-Control-Allow-Origin
    body: Any


def make_token(user_id: str) -> str:
    """Return a token that is valid for one day."""
    now = int(time.time())
    return jwt.encode({"sub": user_id, "iat": now, "exp": now + 24 * 60 * 60}, SECRET, "HS256")


class Server(ApiServer):
    """One of the servers in SERVERS."""

    def __init__(self, name: str, database_url: str) -> None:
        super().__init__(database_url)
        self.name = name
        self.command = [word.format(port=self.port) for word in SERVERS[name]]
        self.children += "uvicorn" in self.command  # uvicorn has a helper process besides its workers

    def call(self, token: str, method: str, path: str, body: Any = None) -> Answer:
        headers = {"Authorization": f"Bearer {token}", "Origin": ORIGIN, "Content-Type": "application/json"}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read()
            return Answer(response.status, response.headers["Access-Control-Allow-Origin"], json.loads(text) if text else None)

    def check(self) -> None:
        """Raise SystemExit unless each operation works and other users are refused."""
        alice, bob, tasks = make_token("alice"), make_token("bob"), "/api/alice/tasks"
        task = self.call(alice, "POST", tasks, {"title": 'tïtle "q" ✓', "description": "a\nb"}).body
        one = f"{tasks}/{task['id']}"
        found = {
            "create": ([task[name] for name in ("user_id", "title", "completed")], ["alice", 'tïtle "q" ✓', False]),
            "list": (self.call(alice, "GET", tasks).body, [task]),
            "get": (self.call(alice, "GET", one).body, task),
            "update": (
                self.call(alice, "PUT", one, {"title": "z"}).body | {"updated_at": ""},
                {**task, "title": "z", "updated_at": ""},
            ),
            "toggle": ([self.call(alice, "PATCH", f"{one}/complete").body["completed"] for _ in "ab"], [True, False]),
            "get by another user": (self.call(bob, "GET", f"/api/bob/tasks/{task['id']}").status, 404),
            "another user's path": (self.call(bob, "GET", tasks).status, 403),
            "a forged token": (self.call(alice[:-5] + "AAAAA", "GET", tasks).status, 401),
            "CORS": (self.call(alice, "GET", tasks).origin, ORIGIN),
            "delete": (self.call(alice, "DELETE", one).status, 204),
            "get after delete": (self.call(alice, "GET", one).status, 404),
        }
        for what, (got, expected) in found.items():
            if got != expected:
                raise SystemExit(f"wrong answer of {self.name} to {what}: {got}, not {expected}")

    def memory(self) -> float:
        """Return the memory of all its processes in MB. Shared pages count once (PSS)."""
        sizes = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in (self.process.pid, *self.workers())]
        return sum(int(size) for text in sizes for size in re.findall(r"^Pss: +(\d+)", text, re.MULTILINE)) / 1024
