"""Brings the database up to date and logs what starts: versions, migrations and settings."""

import logging
import platform
from dataclasses import fields

import psycopg
from psycopg.conninfo import conninfo_to_dict

from todo_api import __version__, migrations
from todo_api.config import Config
from todo_api.connection import Connection

log = logging.getLogger(__name__)


def prepare(config: Config) -> None:
    """Migrate the database and log one record, which holds no secret.

    Raises:
        SystemExit: the database cannot be used; one line says why.
    """
    applied = migrations.migrate(config.database_url)
    options = conninfo_to_dict(config.database_url)
    with Connection.connect(config.database_url, prepare=config.prepare) as conn:
        (count,) = conn.execute("SELECT count(*) FROM schema_migrations").fetchone() or (0,)
        database = {
            **{name: options.get(name) for name in ("host", "port", "dbname", "user")},
            "postgresql": conn.info.parameter_status("server_version"),
            "connection": "direct" if conn.direct else "pooler",
        }
    shown = [each for each in fields(config) if each.repr and each.name != "bind"]  # gunicorn logs where it listens
    settings = {each.metadata["variable"]: getattr(config, each.name) for each in shown}
    settings["BETTER_AUTH_JWKS_URL"] = config.jwks_url.partition("?")[0]  # a query string may hold a token
    versions = {"version": __version__, "python": platform.python_version(), "psycopg": psycopg.__version__}
    migrated = {"migrations_applied_now": applied, "migrations_total": count}
    log.info("todo_api starts", extra={**versions, "database": database, **migrated, "settings": settings})
