"""A TCP proxy between the service and PostgreSQL that can cut or silence a connection."""

import contextlib
import socket
import threading
from collections.abc import Iterator

from psycopg.conninfo import conninfo_to_dict, make_conninfo

READY_FOR_QUERY = b"Z\x00\x00\x00\x05I"  # ends each response of PostgreSQL outside a transaction


class Proxy:
    """Forwards one connection. While `cut` is set, it forwards a response without its end, and closes the connection.

    While `silent` is set, it drops the responses, like a firewall that has forgotten the connection.
    """

    def __init__(self, url: str) -> None:
        target = conninfo_to_dict(url)
        host, port = str(target.get("host", "localhost")), int(str(target.get("port") or 5432))
        self.address = (f"{host}/.s.PGSQL.{port}", socket.AF_UNIX) if host.startswith("/") else ((host, port), socket.AF_INET)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = make_conninfo(
            url, host="127.0.0.1", port=self.listener.getsockname()[1], sslmode="disable", gssencmode="disable"
        )
        self.cut, self.silent = threading.Event(), threading.Event()

    def run(self) -> None:
        client, _ = self.listener.accept()
        address, family = self.address
        with client, socket.socket(family) as server:
            server.connect(address)
            threading.Thread(target=forward, args=[client, server], daemon=True).start()
            with contextlib.suppress(OSError):
                while data := server.recv(1 << 16):
                    if self.cut.is_set() and data.endswith(READY_FOR_QUERY):
                        client.sendall(data.removesuffix(READY_FOR_QUERY))
                        client.shutdown(socket.SHUT_RDWR)
                        return
                    if not self.silent.is_set():
                        client.sendall(data)


def forward(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)


@contextlib.contextmanager
def proxy(url: str) -> Iterator[Proxy]:
    """Run a proxy to the database."""
    started = Proxy(url)
    thread = threading.Thread(target=started.run)
    thread.start()
    try:
        yield started
    finally:
        thread.join(10)
        started.listener.close()
