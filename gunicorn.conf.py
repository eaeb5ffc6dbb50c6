"""How gunicorn serves the application; what its command line says comes first."""

import gevent
from gevent import monkey

monkey.patch_all()  # before anything else is imported, so that all of it waits in gevent's way

import atexit
import contextlib
import gc
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from http import HTTPStatus
from importlib import import_module
from logging.config import dictConfig
from pathlib import Path
from types import FrameType
from typing import Any

from dotenv import load_dotenv
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config as Settings
from gunicorn.glogging import Logger
from gunicorn.http.errors import ExpectationFailed, LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.util import write_nonblock
from gunicorn.workers.base import Worker
from gunicorn.workers.ggevent import GeventWorker

from todo_api.config import Config
from todo_api.logs import JsonFormatter

if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
    # Until gunicorn has its own handler, which comes after the migrations: process 1 of a container would not hear it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())

load_dotenv(Path(__file__).with_name(".env"))
settings = Config.from_env(os.environ)


def remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # the workers inherit what is to be done at exit
        shutil.rmtree(folder)


# Where the workers count. Set before prometheus_client is imported; SIGHUP, which reads this file again, changes nothing.
if settings.metrics and not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="todo_metrics_")
    # Not in gunicorn's on_exit, which is not called when a start fails.
    atexit.register(remove, os.environ["PROMETHEUS_MULTIPROC_DIR"], os.getpid())


class JsonLogger(Logger):
    """gunicorn's records, the application's and the libraries' in one format, on stdout."""

    def setup(self, cfg: Settings) -> None:
        super().setup(cfg)
        dictConfig(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "formatters": {"json": {"()": JsonFormatter}},
                "handlers": {"stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "json"}},
                "root": {"level": logging.getLevelName(self.loglevel), "handlers": ["stdout"]},
                "loggers": {
                    "gunicorn.error": {"propagate": True},
                    # It warns of each attempt to connect; errors.py warns of each request that failed.
                    "psycopg.pool": {"level": "ERROR"},
                },
            }
        )


HANG_UP_SECONDS = 2  # after the stop, or the last answer: by then a request that was on its way is here
STALLED_SECONDS = 30  # for which a client may neither send anything of a body nor take anything of an answer
CHUNK = 64 * 1024  # bytes
REFUSALS = {
    LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
}
PlainSocket = monkey.get_original("socket", "socket")


class Outbox:
    """What is sent to a socket, held back: gunicorn sends an answer's head and body each for itself, here they are one packet."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.parts: list[bytes] = []
        self.sendall = self.parts.append

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


class PoliteWorker(GeventWorker):
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
        outbox = Outbox(sock)
        try:
            return super().handle_request(listener_name, req, outbox, addr)
        finally:
            answer = b"".join(outbox.parts)
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


# A connection costs a greenlet, not a thread: hundreds of slow clients, or of requests that wait for a locked row, stop nobody.
worker_class = PoliteWorker
bind = settings.bind
workers = settings.workers
# The master imports the application and migrates, once, and ends if it cannot: a worker that fails is started again for ever.
preload_app = True
keepalive = 75  # seconds; longer than the 60 for which proxies keep a connection
timeout = 30
graceful_timeout = 25
control_socket_disable = True
sendfile = False  # it would send a file past the head of the answer, which waits for the rest; files are for /docs alone
# What a proxy says of its client is believed of nobody, so that no address needs to be looked up (2 % of a request).
forwarded_allow_ips = "*"
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""
limit_request_line = 8190  # bytes, the most there is: the longest valid user_id and search take 5,500
logger_class = JsonLogger
loglevel = "debug" if settings.debug else "info"


def when_ready(_: Arbiter) -> None:
    # Before the workers: what the garbage collector never visits again stays shared with them, a quarter of all memory. Before
    # each of them, a collection would visit what the first ones share.
    gc.unfreeze()  # what a reload has replaced
    gc.collect()
    gc.freeze()


on_reload = when_ready


def worker_exit(_: Arbiter, __: Worker) -> None:
    import_module("wsgi").app.extensions["pool"].close()


def child_exit(_: Arbiter, worker: Worker) -> None:
    if settings.metrics:
        import_module("prometheus_client.multiprocess").mark_process_dead(worker.pid)
