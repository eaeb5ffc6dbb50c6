"""Runs nginx with deploy/nginx.conf in front of the service."""

from __future__ import annotations

import json

from dev.postgres import unprivileged
from tests.support.client import Client, over_http
from tests.support.server import ROOT, Server, executable, wait_until

PAGE = "https://app.example.com"  # the origin in deploy/nginx.conf
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def on_page(client: Client) -> Client:
    """Make the client send the allowed origin, as a page does. Return it."""
    client.headers["Origin"] = PAGE
    return client


class Nginx(Server):
    """nginx with deploy/nginx.conf in front of the service on the port `upstream`. It runs inside a `with` block."""

    def __init__(self, upstream: int) -> None:
        super().__init__()
        self.upstream = upstream
        self.options = {"cwd": "/", **unprivileged()}

    def configure(self) -> None:
        folders = "".join(f"{name}_temp_path {self.home}/{name};" for name in TEMPORARY)
        text = (ROOT / "deploy" / "nginx.conf").read_text()
        for production, test in {
            "listen 80 ": f"listen 127.0.0.1:{self.port} ",
            "server 127.0.0.1:8000;": f"server 127.0.0.1:{self.upstream};",
            "pid /run/": f"pid {self.home}/",
            "error_log /var/log/nginx/": f"error_log {self.home}/",
            "access_log /var/log/nginx/": f"access_log {self.home}/",
            "\nhttp {": f"\nhttp {{ {folders}",
        }.items():
            assert text.count(production) == 1, production
            text = text.replace(production, test)
        file = self.home / "nginx.conf"
        file.write_text(text)
        self.command = [executable("nginx"), "-e", "stderr", "-c", str(file), "-g", "daemon off;"]

    def client(self, user_id: str) -> Client:
        """Return a client for the user that sends the allowed origin."""
        return on_page(Client(over_http(self.port), user_id))

    def logs(self) -> list[dict[str, str]]:
        """Return the records of the access log."""
        return [json.loads(line) for line in (self.home / "access.log").read_text().splitlines()]

    def record(self, request_id: str) -> dict[str, str]:
        """Wait for the request's record in the access log and return it. nginx writes it shortly after the response."""

        def found() -> list[dict[str, str]]:
            return [record for record in self.logs() if record["request_id"] == request_id]

        wait_until(found, "the request is in the log")
        return found()[0]
