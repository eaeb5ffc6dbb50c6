"""The gunicorn worker: gevent's, which also stops without waiting for idle or stalled clients.

It overrides undocumented methods of gunicorn's workers; docs/performance.md lists them.
"""

import contextlib
import os
import socket
from http import HTTPStatus
from types import FrameType
from typing import Any

import gevent
from gevent import monkey
from gunicorn.http.errors import ExpectationFailed, LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.util import write_nonblock
from gunicorn.workers.ggevent import GeventWorker

HANG_UP_SECONDS = 2  # after the stop, or the last answer: by then a request that was on its way is here
STALLED_SECONDS = 30  # for which a client may neither send anything of a body nor take anything of an answer
CHUNK = 64 * 1024  # bytes
REFUSALS = {
    LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
}
PlainSocket = monkey.get_original("socket", "socket")


class BufferedSocket:
    """What is sent to a socket, held back: gunicorn sends an answer's head and body each for itself, here they are one packet."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.parts: list[bytes] = []
        self.sendall = self.parts.append

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


class GracefulGeventWorker(GeventWorker):
    """Hangs up on idle connections when it stops. gunicorn's own waits for them, and proxies keep them open."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.idle: set[socket.socket] = set()

    def init_process(self) -> None:
        # Settings as plain attributes: gunicorn calls two functions to read one, 23 times a request, a tenth of its instructions.
        vars(self.cfg).update({name: setting.get() for name, setting in self.cfg.settings.items()})
        super().init_process()

    def handle(self, listener: Any, client: socket.socket, addr: Any) -> None:
        gevent.getcurrent().client = client
        try:
            super().handle(listener, client, addr)
        finally:
            self.idle.discard(client)

    def timeout_ctx(self) -> Any:
        """Around the wait for a request and the reading of its head: the connection is idle, and not for too long."""
        self.idle.add(gevent.getcurrent().client)
        return gevent.Timeout(self.cfg.keepalive if self.alive else HANG_UP_SECONDS, False)

    def handle_request(self, listener_name: Any, req: Any, sock: socket.socket, addr: Any) -> bool:
        self.idle.discard(sock)
        sock.settimeout(STALLED_SECONDS)
        buffered = BufferedSocket(sock)
        try:
            return super().handle_request(listener_name, req, buffered, addr)
        finally:
            answer = b"".join(buffered.parts)
            if len(answer) > CHUNK:
                self.send_in_chunks(memoryview(answer), sock)
            sock.settimeout(None)
            if len(answer) <= CHUNK:  # there is room for it where the kernel keeps what clients have not taken yet
                sock.sendall(answer)

    def send_in_chunks(self, answer: memoryview, sock: socket.socket) -> None:
        """Each has the whole limit for itself. StopIteration, which closes the connection, when it has passed."""
        try:
            for start in range(0, len(answer), CHUNK):
                sock.sendall(answer[start : start + CHUNK])
        except TimeoutError:
            raise StopIteration from None

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer what is no request like all errors. gunicorn would quote it, there and in the log: it may hold a token."""
        if not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
            return
        self.log.warning("not a request", extra={"error": type(exc).__name__})
        status = next((status for kind, status in REFUSALS.items() if isinstance(exc, kind)), HTTPStatus.BAD_REQUEST)
        body = f'{{"detail": "{status.phrase}"}}'
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        write_nonblock(client, f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        gevent.spawn_later(HANG_UP_SECONDS, self.hang_up)

    def hang_up(self) -> None:
        for client in list(self.idle):
            with contextlib.suppress(OSError), PlainSocket(fileno=os.dup(client.fileno())) as plain:
                plain.shutdown(socket.SHUT_RD)  # which the greenlet sees as the client's; gevent's own would raise in it
