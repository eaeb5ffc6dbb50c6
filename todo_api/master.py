"""What gunicorn's master does around its workers: the functions that gunicorn.conf.py names as its hooks.

SIGHUP runs gunicorn.conf.py again, but not this module: it keeps its state.
"""

import atexit
import contextlib
import gc
import json
import logging
import os
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import psycopg
from dotenv import dotenv_values
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from todo_api import __version__, migrations
from todo_api.config import Config
from todo_api.connection import Connection

log = logging.getLogger(__name__)

METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # the variable by which prometheus_client finds its folder
FILE_VARIABLES = "TODO_API_FILE_VARIABLES"  # holds the names of the variables that came from `.env`, as JSON


def _environment() -> dict[str, str]:
    """Return the environment without the variables of `.env`. After a reload, a master that SIGUSR2 starts inherits them."""
    for name in json.loads(os.environ.pop(FILE_VARIABLES, "[]")):
        os.environ.pop(name, None)
    return dict(os.environ)


ENVIRONMENT = _environment()
loaded: list[Config] = []  # the results of read_settings at the start and at each reload


def read_settings(env_file: Path) -> Config:
    """Read the environment and `.env`. At the start, also add the variables of `.env` to the environment.

    A reload changes only the address, the number of workers and the log level, because the application keeps its Config. If it
    finds a problem, it logs it and returns the previous settings.

    Raises:
        SystemExit: at the start; one line with every problem, none with a value.
    """
    try:
        file = {name: value or "" for name, value in dotenv_values(env_file).items() if name not in ENVIRONMENT}
        config = Config.from_env(file | ENVIRONMENT)
        if not loaded:
            if config.metrics:
                file[METRICS_VARIABLE] = _metrics_folder(file | ENVIRONMENT)
            os.environ.update(file, **{FILE_VARIABLES: json.dumps(list(file.keys() - ENVIRONMENT.keys()))})
        loaded.append(config)
    except (OSError, ValueError, SystemExit) as error:
        problem = str(error) if isinstance(error, SystemExit) else f"todo_api cannot read .env: {type(error).__name__}"
        if not loaded:
            raise SystemExit(problem) from None
        log.error("settings not reloaded", extra={"problem": problem.removeprefix("todo_api cannot start: ")})
    return loaded[-1]


def _metrics_folder(env: Mapping[str, str]) -> str:
    folder = env.get(METRICS_VARIABLE) or _temporary_folder()
    if not os.access(f"{folder}/", os.W_OK | os.X_OK):
        raise SystemExit(f"todo_api cannot start: {METRICS_VARIABLE} must be an existing folder that the service can write to")
    return folder


def _temporary_folder() -> str:
    folder, owner = tempfile.mkdtemp(prefix="todo_metrics_"), os.getpid()

    @atexit.register  # not in gunicorn's on_exit hook, which a failed start does not call
    def remove() -> None:
        if os.getpid() == owner:  # workers inherit the master's exit handlers
            shutil.rmtree(folder, ignore_errors=True)

    return folder


def migrate_at_start(_: Arbiter, __: int, workers_before: int | None) -> None:
    """Migrate at the start. The hook is nworkers_changed: before on_starting, gunicorn logs, but a failed start prints one line.

    Raises:
        SystemExit: the database cannot be used; one line says why.
    """
    if workers_before is not None:
        return
    # Process 1 of a container ignores a signal without a handler, and gunicorn sets its handlers after this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    config = loaded[0]
    applied = migrations.migrate(config.database_url)
    with contextlib.suppress(psycopg.Error):  # the first request would report that the database is lost
        _log_start(config, applied)


def _log_start(config: Config, applied: list[str]) -> None:
    """Log what starts in one record, which holds no secret."""
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


def restore_metrics_folder(_: Arbiter, __: Worker) -> None:
    """Create the folder again before a worker starts: a cleaner of temporary files may have removed it."""
    if loaded[0].metrics:
        with contextlib.suppress(OSError):
            Path(os.environ[METRICS_VARIABLE]).mkdir(0o700, parents=True, exist_ok=True)


def freeze_memory(_: Arbiter) -> None:
    """Hide existing objects from the garbage collector, which would write to the memory that the workers share."""
    gc.unfreeze()  # a reload has replaced some of them
    gc.collect()
    gc.freeze()
