"""A todo service: Flask views run the SQL of `sql/` for the user whom a JWT names."""

import sys

from flask import Flask

from todo_api import auth, cli, db, errors, headers, health, logs, metrics, tasks, validation
from todo_api.app import TodoApp
from todo_api.config import Config

__version__ = "1.0.0"


def create_app(config: Config | None = None) -> Flask:
    """Return the WSGI application. It does not connect to the database yet: the first request that needs the pool opens it.

    Args:
        config: the settings; by default those of the environment and of `.env`.

    Raises:
        SystemExit: a setting is missing or malformed; the message names each of them.
    """
    # `flask --help` creates the application too, and must work without settings.
    if config is None:
        config = Config.from_env(cli.PLACEHOLDERS) if cli.needs_no_setting(sys.argv) else Config.load()
    app = TodoApp(__name__, static_folder=None)
    app.config["VERSION"] = __version__
    # No redirects to the "right" spelling of a path: TodoApp matches without a host, so their Location would have no host.
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.converters["task_id"] = tasks.TaskId
    # `db` is first, because `metrics` needs its pool. `headers` sets the id and the start time of a request, which others use.
    for part in (db, headers, logs, metrics, auth, cli, validation, errors, health):
        part.init_app(app, config)
    app.register_blueprint(tasks.bp)
    return app
