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
        watchers.append(count_requests(app))
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
    """Log a request with its route. The path of a successful request would hold the ids of its user and task."""
    seconds, database = time.perf_counter() - g.started, g.get("database_seconds", 0)
    fields = {"user": g.get("user_id"), "route": request.url_rule and request.url_rule.rule, "status": response.status_code}
    times = {"milliseconds": round(seconds * 1000, 3), "database_milliseconds": round(database * 1000, 3)}
    log.info("answered", extra={**fields, **times})


def count_requests(app: Flask) -> Callable[[Response], None]:
    """Serve `/metrics` with sums over all processes that share PROMETHEUS_MULTIPROC_DIR. Return what counts one response."""
    # prometheus_client reads that variable when it is imported.
    import prometheus_client as client  # noqa: PLC0415
    from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

    registry, folder = client.CollectorRegistry(), os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    target = None if folder else registry  # with a folder, the collector reads the files of all processes
    if folder:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(ScrapeCollector())
    requests = client.Counter("todo_api_requests", "Responses", ["route", "method", "status"], registry=target)
    latency = client.Histogram("todo_api_request_seconds", "Time to respond", ["route"], registry=target, buckets=BUCKETS)
    refused = client.Counter("todo_api_auth_failures", "Responses with status 401 or 403", ["reason"], registry=target)
    gauge = functools.partial(client.Gauge, multiprocess_mode="livesum", registry=target)
    waiting = gauge("todo_api_pool_waiting", "Requests that wait for a database connection")
    in_use = gauge("todo_api_pool_in_use", "Database connections in use")
    size = gauge("todo_api_pool_size", "Database connections that the workers may open")
    pool: Pool = app.extensions["pool"]
    sampled: set[int] = set()  # ids of the processes that run sample_pool

    def sample_pool() -> None:
        """Update the gauges every second, also while all requests are stuck."""
        while True:
            with contextlib.suppress(Exception):  # `watch` logs what is wrong with the folder
                waiting.set(pool.waiting)
                in_use.set(len(pool.in_use))
                size.set(pool.max_size)
            time.sleep(1)

    @app.get("/metrics")
    def metrics() -> Response:
        if folder and Path("/proc").exists():
            remove_leftovers(Path(folder))
        return Response(client.generate_latest(registry), content_type=client.CONTENT_TYPE_LATEST)

    def count(response: Response) -> None:
        if os.getpid() not in sampled:  # threads do not survive a fork
            sampled.add(os.getpid())
            threading.Thread(target=sample_pool, daemon=True).start()
        # The method of an unknown route is up to the client, which could create series without end.
        route, method = (request.url_rule.rule, request.method) if request.url_rule else ("none", "any")
        requests.labels(route, method, response.status_code).inc()
        latency.labels(route).observe(time.perf_counter() - g.started)
        if response.status_code in (401, 403):
            refused.labels(g.detail).inc()

    return count


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
