"""Optional: a log record of each request, and metrics."""

import atexit
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable

from flask import Flask, Response, g, request

from todo_api.config import Config

log = logging.getLogger("todo_api.access")


def init_app(app: Flask, config: Config) -> None:
    """Watch requests if a setting asks for it."""
    watchers: list[Callable[[Response], None]] = [log_request] if config.access_log else []
    if config.metrics:
        # prometheus_client reads this variable when it is imported.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder = temporary_folder()
        from todo_api.metrics import Metrics  # noqa: PLC0415

        metrics = Metrics(app.extensions["pool"], folder)
        app.add_url_rule("/metrics", "metrics", metrics.serve)
        watchers.append(metrics.count)
    if not watchers:
        return

    @app.before_request
    def start_timer() -> None:
        g.started = time.perf_counter()

    @app.after_request
    def watch(response: Response) -> Response:
        try:
            for watcher in watchers:
                watcher(response)
        except Exception as error:  # a response never depends on being counted
            log.error("request not counted", extra={"error": type(error).__name__})
        return response


def temporary_folder() -> str:
    """Create a folder that is removed when this process ends."""
    folder, owner = tempfile.mkdtemp(prefix="todo_metrics_"), os.getpid()

    @atexit.register
    def remove() -> None:
        if os.getpid() == owner:  # workers inherit the exit handlers
            shutil.rmtree(folder, ignore_errors=True)

    return folder


def log_request(response: Response) -> None:
    """Log a request with its route, not its path, so that the records can be grouped."""
    seconds, database = time.perf_counter() - g.started, g.get("database_seconds", 0)
    fields = {"user": g.get("user_id"), "route": request.url_rule and request.url_rule.rule, "status": response.status_code}
    times = {"milliseconds": round(seconds * 1000, 3), "database_milliseconds": round(database * 1000, 3)}
    log.info("answered", extra={**fields, **times})
