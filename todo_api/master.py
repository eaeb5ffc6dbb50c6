"""What gunicorn's master does around its workers: the functions that gunicorn.conf.py names as its hooks.

SIGHUP runs gunicorn.conf.py again, but not this module: it keeps its state.
"""

import atexit
import contextlib
import gc
import logging
import os
import platform
import shutil
import signal
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

import psycopg
from dotenv import dotenv_values
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from todo_api import __version__, migrations
from todo_api.config import Config
from todo_api.connection import Connection
from todo_api.worker import ENVIRONMENT

log = logging.getLogger(__name__)

METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # the variable by which prometheus_client finds it
configs: list[Config] = []  # of the start and of each reload; the application keeps the first


def read_config(env_file: Path) -> Config:
    """Read the environment and `.env`. If a reload finds a problem, log it and keep the current settings.

    Raises:
        SystemExit: at the start; one line with every problem, none with a value.
    """
    try:
        env = {**{name: value or "" for name, value in dotenv_values(env_file).items()}, **ENVIRONMENT}
        config = Config.from_env(env)
        if not configs:
            os.environ.update(env)
        configs.append(config)
    except (OSError, ValueError, SystemExit) as error:
        problem = str(error) if isinstance(error, SystemExit) else f"todo_api cannot read .env: {type(error).__name__}"
        if not configs:
            raise SystemExit(problem) from None
        log.error("settings not reloaded", extra={"problem": problem.removeprefix("todo_api cannot start: ")})
    return configs[-1]


def migrate_at_start(_: Arbiter, __: int, workers_before: int | None) -> None:
    """Migrate before the import of the application. The hook is nworkers_changed: gunicorn logs before it calls on_starting.

    Raises:
        SystemExit: the database cannot be used; one line says why.
    """
    if workers_before is not None:
        return
    # Process 1 of a container ignores signals without a handler, and gunicorn sets its own later.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    if configs[0].metrics:
        _prepare_metrics_folder()
    _log_start(configs[0], migrations.migrate(configs[0].database_url))


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


def _prepare_metrics_folder() -> None:
    folder = os.environ.get(METRICS_VARIABLE)
    if not folder:
        folder = os.environ[METRICS_VARIABLE] = tempfile.mkdtemp(prefix="todo_metrics_")
        # Not in gunicorn's on_exit hook, which a failed start does not call.
        atexit.register(_remove, folder, os.getpid())
    elif not os.access(f"{folder}/", os.W_OK | os.X_OK):
        raise SystemExit(f"todo_api cannot start: {METRICS_VARIABLE} must be an existing folder that the service can write to")


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # workers inherit the master's exit handlers
        shutil.rmtree(folder, ignore_errors=True)


def restore_metrics_folder(_: Arbiter, __: Worker) -> None:
    """Create the folder again before a worker starts: a cleaner of temporary files may have removed it."""
    if configs[0].metrics:
        with contextlib.suppress(OSError):
            Path(os.environ[METRICS_VARIABLE]).mkdir(0o700, parents=True, exist_ok=True)


def freeze_memory(_: Arbiter) -> None:
    """Hide existing objects from the garbage collector, which would write to the memory that the workers share."""
    gc.unfreeze()  # a reload has replaced some of them
    gc.collect()
    gc.freeze()
