"""Optional: a log record of each request, and metrics for Prometheus."""

import contextlib
import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
from flask import Flask, Response, current_app, g, request

from todo_api import db, errors
from todo_api.config import Config
from todo_api.pool import Pool

log = logging.getLogger("todo_api.access")

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)  # seconds


def init_app(app: Flask, config: Config) -> None:
    """Watch requests if a setting asks for it."""
    watchers: list[Callable[[Response], None]] = [log_request] if config.access_log else []
    if config.metrics:
        metrics = Metrics(app.extensions["pool"])
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


def log_request(response: Response) -> None:
    """Log a request with its route, not its path, so that the records can be grouped."""
    seconds, database = time.perf_counter() - g.started, g.get("database_seconds", 0)
    fields = {"user": g.get("user_id"), "route": request.url_rule and request.url_rule.rule, "status": response.status_code}
    times = {"milliseconds": round(seconds * 1000, 3), "database_milliseconds": round(database * 1000, 3)}
    log.info("answered", extra={**fields, **times})


class Metrics:
    """The metrics of this process. With PROMETHEUS_MULTIPROC_DIR, `/metrics` has the sums over all processes that share it."""

    def __init__(self, pool: Pool) -> None:
        # prometheus_client reads that variable when it is imported.
        import prometheus_client as client  # noqa: PLC0415
        from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

        self.pool, self.client, self.folder = pool, client, os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        self.sampled_process = 0  # the id of the process that runs `sample_pool`
        self.registry = client.CollectorRegistry()
        if self.folder:
            MultiProcessCollector(self.registry)  # type: ignore[no-untyped-call]
        self.registry.register(ScrapeCollector())
        target = None if self.folder else self.registry  # with a folder, the collector reads the files of all processes
        counter = functools.partial(client.Counter, registry=target)
        gauge = functools.partial(client.Gauge, multiprocess_mode="livesum", registry=target)
        self.requests = counter("todo_api_requests", "Responses", ["route", "method", "status"])
        self.refused = counter("todo_api_auth_failures", "Responses with status 401 or 403", ["reason"])
        self.latency = client.Histogram(
            "todo_api_request_seconds", "Time to respond", ["route"], registry=target, buckets=BUCKETS
        )
        self.waiting = gauge("todo_api_pool_waiting", "Requests that wait for a database connection")
        self.in_use = gauge("todo_api_pool_in_use", "Database connections in use")
        self.size = gauge("todo_api_pool_size", "Database connections that the workers may open")

    def count(self, response: Response) -> None:
        if self.sampled_process != os.getpid():  # threads do not survive a fork
            self.sampled_process = os.getpid()
            threading.Thread(target=self.sample_pool, daemon=True).start()
        # The method of an unknown route is up to the client, which could create series without end.
        route, method = (request.url_rule.rule, request.method) if request.url_rule else ("none", "any")
        self.requests.labels(route, method, response.status_code).inc()
        self.latency.labels(route).observe(time.perf_counter() - g.started)
        if response.status_code in (401, 403):
            self.refused.labels(g.detail).inc()

    def sample_pool(self) -> None:
        """Update the gauges every second, also while all requests are stuck."""
        while True:
            with contextlib.suppress(Exception):  # `watch` logs what is wrong with the folder
                self.waiting.set(self.pool.waiting)
                self.in_use.set(len(self.pool.in_use))
                self.size.set(self.pool.max_size)
            time.sleep(1)

    def serve(self) -> Response:
        if self.folder and Path("/proc").exists():
            remove_leftovers(Path(self.folder))
        return Response(self.client.generate_latest(self.registry), content_type=self.client.CONTENT_TYPE_LATEST)


def remove_leftovers(folder: Path) -> None:
    """Remove the gauges of processes that have ended, and their empty files, which prometheus_client cannot read."""
    for file in folder.glob("*_*.db"):
        ended = not Path("/proc", file.stem.rpartition("_")[2]).exists()
        if ended and (file.name.startswith("gauge_live") or not file.stat().st_size):
            file.unlink(missing_ok=True)


class ScrapeCollector:
    """Metrics whose values are found at each scrape."""

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily  # noqa: PLC0415

        yield InfoMetricFamily("todo_api", "Version of the service", {"version": current_app.config["VERSION"]})
        pool: Pool = current_app.extensions["pool"]
        if len(pool.in_use) < pool.max_size:  # otherwise the scrape would wait, so it reports the last known state
            try:
                db.execute("ready")
            except psycopg.Error as error:
                errors.database_error(error)
        up = not current_app.extensions["outage"].began
        yield GaugeMetricFamily("todo_api_database_up", "1 if the database is available, else 0", up)
        keys = current_app.extensions["verifier"].keys
        keys.load()
        yield GaugeMetricFamily("todo_api_jwks_keys", "Known public keys of the auth server", len(keys.keys))
        if keys.fetched > 0:
            age = time.monotonic() - keys.fetched
            yield GaugeMetricFamily("todo_api_jwks_age_seconds", "Time since the last successful fetch of keys", age)
