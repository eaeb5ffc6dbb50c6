"""A todo service: Flask views run the SQL of `sql/` for the user whom a JWT names."""

import os
from collections.abc import Callable
from typing import Any

from flask import Flask

from todo_api import auth, cli, contract, db, errors, headers, meta, metrics, tasks
from todo_api.config import Config


class Service(Flask):
    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """None is asynchronous; to look at each of them for each request takes 3 % of its time."""
        return func


def create_app(config: Config | None = None) -> Flask:
    """The WSGI application. Nothing is connected to yet: the pool opens with the first request that needs it.

    Args:
        config: the settings; by default those of the process environment.

    Raises:
        SystemExit: a setting is missing or malformed; the message names each of them.
    """
    config = config or Config.from_env(os.environ)
    app = Service(__name__, static_folder=None)
    # A redirect to the "right" spelling of a path would break CORS preflights.
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.converters["task_id"] = tasks.TaskId
    for part in (auth, cli, contract, db, errors, headers, meta, metrics):
        part.init_app(app, config)
    app.register_blueprint(tasks.bp)
    return app
