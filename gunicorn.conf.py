"""How gunicorn serves the application; what its command line says comes first."""

from gevent import monkey

monkey.patch_all()  # before anything else is imported, so that all of it waits in gevent's way

import logging
import os
from importlib import import_module
from logging.config import dictConfig
from pathlib import Path

from dotenv import load_dotenv
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config as Settings
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from todo_api.config import Config
from todo_api.logs import JsonFormatter

load_dotenv(Path(__file__).with_name(".env"))


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
                    "psycopg.pool": {
                        "level": "ERROR"
                    },  # it warns of each attempt to connect; errors.py of each request that failed
                },
            }
        )


# A connection costs a greenlet, not a thread: hundreds of slow clients, or of requests that wait for a locked row, stop nobody.
worker_class = "gevent"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
# The master imports the application and migrates, once, and ends if it cannot: a worker that fails is started again for ever.
preload_app = True
keepalive = 75  # seconds; longer than the 60 for which proxies keep a connection
timeout = 30
graceful_timeout = 25
control_socket_disable = True
limit_request_line = 8190  # bytes, the most there is: the longest valid user_id and search take 5,500
logger_class = JsonLogger
loglevel = "debug" if Config.from_env(os.environ).debug else "info"


def worker_exit(_: Arbiter, __: Worker) -> None:
    import_module("wsgi").app.extensions["pool"].close()
