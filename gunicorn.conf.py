"""How gunicorn serves the application; what its command line says comes first."""

import os
from importlib import import_module
from pathlib import Path

from dotenv import load_dotenv
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from todo_api import logs, migrations
from todo_api.config import Config

load_dotenv(Path(__file__).with_name(".env"))


def number(name: str, default: int) -> int:
    value = os.environ.get(name) or str(default)
    if not value.isdecimal() or not int(value):
        raise SystemExit(f"todo_api cannot start: {name} must be a whole number from 1")
    return int(value)


worker_class = "gthread"
workers = number("WEB_CONCURRENCY", 2)
threads = number("WEB_THREADS", 8)
# The master imports the application, so that a bad setting ends it: a worker that fails is started again for ever.
preload_app = True
keepalive = 75  # seconds; longer than the 60 for which proxies keep a connection
timeout = 30
graceful_timeout = 25
control_socket_disable = True
logger_class = logs.GunicornLogger
loglevel = "debug" if Config.from_env(os.environ).debug else "info"


def on_starting(_: Arbiter) -> None:
    """Once, in the master, before anything listens."""
    migrations.migrate(import_module("wsgi").app.extensions["pool"].conninfo)


def worker_exit(_: Arbiter, __: Worker) -> None:
    import_module("wsgi").app.extensions["pool"].close()
