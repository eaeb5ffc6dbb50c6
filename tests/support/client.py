"""A client of the API for one user, with Flask's test client or with real HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import jwt
from flask import Flask
from werkzeug.datastructures import Headers

from dev.server import ORIGIN, SECRET
from todo_api import create_app
from todo_api.config import Config

__all__ = ["ORIGIN", "SECRET"]  # the tests import them from here
UNSET: Any = object()

Send = Callable[[str, str, dict[str, str], "bytes | None"], "Response"]


@dataclass(frozen=True)
class Response:
    status: int
    headers: Headers
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def config(database_url: str, **env: str) -> Config:
    """Return the configuration for these environment variables."""
    required = {"BETTER_AUTH_SECRET": SECRET, "NEON_DATABASE_URL": database_url, "BETTER_AUTH_URL": f"{ORIGIN},http://[::1]:3000"}
    return Config.from_env({**required, **env})


@contextlib.contextmanager
def application(database_url: str, **env: str) -> Iterator[Flask]:
    """Yield an application with these settings. Close its pool at the end."""
    app = create_app(config(database_url, **env))
    try:
        yield app
    finally:
        app.extensions["pool"].close()


def in_process(app: Flask) -> Send:
    def send(method: str, path: str, headers: dict[str, str], body: bytes | None) -> Response:
        response = app.test_client().open(path, method=method, headers=headers, data=body)
        return Response(response.status_code, Headers(response.headers), response.data)

    return send


def over_http(port: int, timeout: float = 30) -> Send:
    """Return a function that sends each request on a new connection."""

    def send(method: str, path: str, headers: dict[str, str], body: bytes | None) -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Response(response.status, Headers(response.getheaders()), response.read())
        finally:
            connection.close()

    return send


def token(claims: Mapping[str, Any], secret: str = SECRET, algorithm: str = "HS256") -> str:
    """Return a token that is valid for an hour unless the claims say otherwise. A claim of None is omitted."""
    now = int(time.time())
    claims = {"iat": now, "exp": now + 3600, **claims}
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, secret, algorithm)


class Client:
    """Sends requests of one user to that user's `/api/{user_id}/tasks`."""

    def __init__(self, send: Send, user_id: str) -> None:
        self.send = send
        self.user_id = user_id
        self.headers = {"Authorization": f"Bearer {token({'sub': user_id})}", "Origin": ORIGIN}

    def call(
        self, method: str, path: object = "", body: Any = UNSET, *, of: Client | None = None, headers: Mapping[str, str] = {}
    ) -> Response:
        """Send `body` as JSON, or unchanged if it is bytes. `of` is another user for the path. Omit headers that are ""."""
        raw = None if body is UNSET else body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = {} if raw is None else {"Content-Type": "application/json"}
        merged = {name: value for name, value in {**kind, **self.headers, **headers}.items() if value}
        tail = str(path) if str(path).startswith("?") else f"/{path}" if path != "" else ""
        return self.send(method, f"/api/{quote((of or self).user_id, safe='')}/tasks{tail}", merged, raw)

    def create(self, title: str = "Buy milk", **fields: Any) -> dict[str, Any]:
        answer = self.call("POST", body={"title": title, **fields})
        assert answer.status == 201, answer
        task: dict[str, Any] = answer.json
        return task

    def list(self) -> list[dict[str, Any]]:
        answer = self.call("GET")
        assert answer.status == 200, answer
        tasks: list[dict[str, Any]] = answer.json
        return tasks
