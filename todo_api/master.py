"""What gunicorn's master does around its workers: the functions that gunicorn.conf.py names as its hooks.

SIGHUP runs gunicorn.conf.py again, but not this module: it keeps its state.
"""

import contextlib
import gc
import logging
import platform
import signal
import sys
from dataclasses import fields

import psycopg
from gunicorn.arbiter import Arbiter

from todo_api import __version__, migrations
from todo_api.config import Config
from todo_api.connection import Connection

log = logging.getLogger(__name__)

last_settings: Config | None = None  # the result of the last `read_settings`


def read_settings() -> Config:
    """Return the settings. If a reload finds a problem, log it and return the previous settings.

    A reload changes only the address, the number of workers and the log level, because the application keeps its Config.

    Raises:
        SystemExit: at the start; one line with every problem, none with a value.
    """
    global last_settings  # noqa: PLW0603, a reload must know the settings before it
    try:
        last_settings = Config.load()
    except SystemExit as error:
        if not last_settings:
            raise
        log.error("settings not reloaded", extra={"problem": str(error)})
    return last_settings


def migrate_at_start(_: Arbiter, __: int, workers_before: int | None) -> None:
    """Migrate at the start, when `workers_before` is None.

    This is gunicorn's hook nworkers_changed. A failed start must print only one line, so the hook on_starting would be too late:
    gunicorn has logged "Starting" by then.

    Raises:
        SystemExit: the database cannot be used; one line says why.
    """
    if workers_before is not None:
        return
    # Process 1 of a container ignores a signal without a handler, and gunicorn sets its handlers after this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    config = last_settings or read_settings()
    applied = migrations.migrate(config.database_url)
    with contextlib.suppress(psycopg.Error):  # the first request would report that the database is lost
        _log_start(config, applied)


def _log_start(config: Config, applied: list[str]) -> None:
    """Log one record that describes the service, without any secret."""
    with Connection.connect(config.database_url, prepare=config.prepare) as conn:
        (count,) = conn.execute("SELECT count(*) FROM schema_migrations").fetchone() or (0,)
        database = {
            **{name: getattr(conn.info, name) for name in ("host", "port", "dbname", "user")},
            "postgresql": conn.info.parameter_status("server_version"),
            "connection": "direct" if conn.direct else "pooler",
        }
    shown = [each for each in fields(config) if each.repr and each.name != "bind"]  # gunicorn logs where it listens
    settings = {each.metadata["variable"]: getattr(config, each.name) for each in shown}
    settings["BETTER_AUTH_JWKS_URL"] = config.jwks_url.partition("?")[0]  # a query string may hold a token
    versions = {"version": __version__, "python": platform.python_version(), "psycopg": psycopg.__version__}
    migrated = {"migrations_applied_now": applied, "migrations_total": count}
    log.info("todo_api starts", extra={**versions, "database": database, **migrated, "settings": settings})


def freeze_memory(_: Arbiter) -> None:
    """Hide existing objects from the garbage collector, which would write to the memory that the workers share."""
    gc.unfreeze()  # a reload has replaced some of them
    gc.collect()
    gc.freeze()
