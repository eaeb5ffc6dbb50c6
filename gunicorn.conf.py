"""How gunicorn serves the application; what its command line says comes first."""

from gevent import monkey

monkey.patch_all()  # before anything else is imported, so that all of it waits in gevent's way

import atexit
import gc
import os
import shutil
import signal
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from dotenv import load_dotenv
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from todo_api.config import Config
from todo_api.logs import ServerLogger
from todo_api.worker import GracefulGeventWorker

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


# A connection costs a greenlet, not a thread: hundreds of slow clients, or of requests that wait for a locked row, stop nobody.
worker_class = GracefulGeventWorker
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
logger_class = ServerLogger
loglevel = settings.log_level or ("debug" if settings.debug else "info")


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
