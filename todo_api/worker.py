"""The gunicorn worker: gevent's, with a graceful stop and limits for stalled clients.

It overrides undocumented methods of gunicorn's workers; docs/performance.md lists them.
"""

import contextlib
import os
import socket
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import gevent
from gevent import monkey
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.http.errors import ExpectationFailed, LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.util import write_nonblock
from gunicorn.workers.ggevent import GeventWorker

ENVIRONMENT = dict(os.environ)  # without `.env`
STATUSES = {
    LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
}
PlainSocket = monkey.get_original("socket", "socket")


def restore_environment(master: Arbiter) -> None:
    """Start the next master (SIGUSR2) with the environment of this one's start. After a SIGHUP it would get the old `.env`."""
    master.cfg.env_orig = ENVIRONMENT


class BufferedSocket:
    """Collects what is sent: gunicorn sends the head and the body of a response separately, and this makes them one packet."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.parts: list[bytes] = []
        self.sendall = self.parts.append

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


def freeze(cfg: Config) -> None:
    """Turn gunicorn's settings into plain attributes. gunicorn calls two functions to read one, 23 times a request."""

    def refuse(name: str, _: object) -> None:
        raise RuntimeError(f"gunicorn's setting {name} cannot change once a worker has started")

    vars(cfg).update({name: setting.get() for name, setting in cfg.settings.items()}, set=refuse)


class GracefulGeventWorker(GeventWorker):
    """Disconnects idle clients when it stops, and stalled clients always. gunicorn's own worker waits for both."""

    # Seconds without progress after which a client that sends a body or reads a response is disconnected
    stall_seconds = 30
    stall_seconds_in_stop = 5

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.connections: set[socket.socket] = set()
        self.idle: set[socket.socket] = set()
        self.notifications_in_stop = 0
        super().__init__(*args, **kwargs)

    def notify(self) -> None:
        """gunicorn calls this once a second, also while a worker that has stopped accepting waits for its connections."""
        super().notify()
        if not self.alive:
            self.notifications_in_stop += 1
        if self.notifications_in_stop > 1:  # a request that was on its way when the stop began has arrived
            self.end_input(self.idle)
        if self.notifications_in_stop > self.stall_seconds_in_stop:
            self.end_input(self.connections)

    def end_input(self, clients: Iterable[socket.socket]) -> None:
        """Let the reader of each connection get what has arrived, then the end of the stream."""
        for client in clients:
            # gevent's own shutdown() raises in the greenlet that reads.
            with contextlib.suppress(OSError), PlainSocket(fileno=os.dup(client.fileno())) as plain:
                plain.shutdown(socket.SHUT_RD)

    def init_process(self) -> None:
        freeze(self.cfg)
        super().init_process()

    def handle(self, listener: Any, client: socket.socket, addr: Any) -> None:
        gevent.getcurrent().client = client
        self.connections.add(client)
        try:
            super().handle(listener, client, addr)
        finally:
            self.connections.discard(client)
            self.idle.discard(client)

    def timeout_ctx(self) -> Any:
        """Limits the wait for a request and for its head. The connection is idle meanwhile."""
        self.idle.add(gevent.getcurrent().client)
        return super().timeout_ctx()

    def handle_request(self, listener_name: Any, req: Any, sock: socket.socket, addr: Any) -> bool:
        self.idle.discard(sock)
        buffered = BufferedSocket(sock)
        sock.settimeout(self.stall_seconds)
        try:
            return super().handle_request(listener_name, req, buffered, addr)
        finally:
            self.send(memoryview(b"".join(buffered.parts)), sock)
            sock.settimeout(None)

    def send(self, response: memoryview, sock: socket.socket) -> None:
        """Send all of it. Raises StopIteration, which closes the connection, if the client stalls."""
        sock.settimeout(1)
        stalled = 0
        while response:
            try:
                response = response[sock.send(response) :]
                stalled = 0
            except TimeoutError:
                stalled += 1
                if stalled >= (self.stall_seconds if self.alive else self.stall_seconds_in_stop):
                    raise StopIteration from None

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer an invalid request like any other error. gunicorn would quote it in the response and the log, with its token."""
        if not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
            return
        self.log.warning("not a request", extra={"error": type(exc).__name__})
        status = next((status for kind, status in STATUSES.items() if isinstance(exc, kind)), HTTPStatus.BAD_REQUEST)
        body = f'{{"detail": "{status.phrase}"}}'
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        write_nonblock(client, f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
