"""gunicorn's gevent worker with a graceful stop. It overrides undocumented methods, which docs/performance.md lists."""

import contextlib
import socket
from http import HTTPStatus
from typing import Any

from gunicorn.config import Config
from gunicorn.http.errors import ExpectationFailed, LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.util import write_nonblock
from gunicorn.workers.ggevent import GeventWorker

STATUSES = {LimitRequestLine: 414, LimitRequestHeaders: 431, ExpectationFailed: 417}


class BufferedSocket:
    """Collects what is sent: gunicorn sends the head and the body of a response separately, and this makes them one packet."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.parts: list[bytes] = []
        self.sendall = self.parts.append

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


def freeze_settings(cfg: Config) -> None:
    """Turn gunicorn's settings into plain attributes. A request reads 23 of them, and gunicorn calls two functions for each."""

    def refuse(name: str, _: object) -> None:
        raise RuntimeError(f"gunicorn's setting {name} cannot change once a worker has started")

    vars(cfg).update({name: setting.get() for name, setting in cfg.settings.items()})
    vars(cfg)["set"] = refuse  # replaces the method


class GracefulGeventWorker(GeventWorker):
    """Disconnects idle clients when it stops, and stalled clients at any time. gunicorn's own worker waits for both."""

    # A client that sends a body or reads a response is disconnected after this time without progress.
    stall_seconds = 30
    # During a stop, a client that reads a response is disconnected after this time without progress, and a client that sends a
    # body is disconnected this long after the stop has begun.
    stall_seconds_in_stop = 5
    idle_seconds_in_stop = 2
    seconds_in_stop = 0

    def notify(self) -> None:
        """gunicorn calls this every second, even during a stop, until all connections are closed."""
        super().notify()
        if self.alive:
            return
        self.seconds_in_stop += 1
        for client, idle in self.connections.items():
            if self.seconds_in_stop >= (self.idle_seconds_in_stop if idle else self.stall_seconds_in_stop):
                # The greenlet that reads gets what has arrived, and then the end of the stream. gevent's own shutdown() would
                # raise an error in that greenlet.
                with contextlib.suppress(OSError):
                    client._sock.shutdown(socket.SHUT_RD)

    def init_process(self) -> None:
        freeze_settings(self.cfg)
        self.connections: dict[Any, bool] = {}  # the open connections, and whether each is idle
        super().init_process()

    def handle(self, listener: Any, client: socket.socket, addr: Any) -> None:
        self.connections[client] = True
        try:
            super().handle(listener, client, addr)
        finally:
            self.connections.pop(client, None)

    def handle_request(self, listener_name: Any, req: Any, sock: socket.socket, addr: Any) -> bool:
        self.connections[sock] = False
        buffered = BufferedSocket(sock)
        sock.settimeout(self.stall_seconds)  # for reading the body; `send` has its own limit
        try:
            return super().handle_request(listener_name, req, buffered, addr)
        finally:
            self.send(memoryview(b"".join(buffered.parts)), sock)
            sock.settimeout(None)
            self.connections[sock] = True

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
        """Answer an invalid request with JSON. gunicorn would quote the request, with its token, in the response and the log."""
        if not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
            return
        self.log.warning("invalid request", extra={"error": type(exc).__name__})
        status = HTTPStatus(STATUSES.get(type(exc), 400))
        body = f'{{"detail": "{status.phrase}"}}'
        fields = f"Connection: close\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        write_nonblock(client, f"HTTP/1.1 {status.value} {status.phrase}\r\n{fields}\r\n\r\n{body}".encode())
