"""Metrics for Prometheus, if METRICS is true."""

import atexit
import contextlib
import functools
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from flask import Flask, Response, current_app, g, request

from todo_api import db
from todo_api.config import Config
from todo_api.jwks import KeyStore
from todo_api.outage import OutageLog
from todo_api.pool import Pool

log = logging.getLogger(__name__)

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)  # seconds


def init_app(app: Flask, config: Config) -> None:
    if not config.metrics:
        return
    metrics = Metrics(app.extensions["pool"])
    app.add_url_rule("/metrics", "metrics", metrics.serve)

    @app.after_request
    def count(response: Response) -> Response:
        try:
            metrics.count(response)
        except Exception as error:  # a response never depends on being counted
            log.error("request not counted", extra={"error": type(error).__name__})
        return response


class Metrics:
    """The metrics of this process and of every process forked after `__init__`. Each process writes its own to files."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.folder = pool, temporary_folder()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self.folder)  # prometheus_client reads it when it is imported
        import prometheus_client as client  # noqa: PLC0415
        from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

        self.client = client
        self.started_pid = 0  # the process that has called `start_process`
        self.registry = client.CollectorRegistry()
        MultiProcessCollector(self.registry)  # type: ignore[no-untyped-call]
        self.registry.register(ScrapeCollector())
        # MultiProcessCollector reads the files, so these are in no registry.
        counter = functools.partial(client.Counter, registry=None)
        gauge = functools.partial(client.Gauge, multiprocess_mode="livesum", registry=None)
        self.requests = counter("todo_api_requests", "Responses", ["route", "method", "status"])
        self.auth_failures = counter("todo_api_auth_failures", "Responses with status 401 or 403", ["reason"])
        self.latency = client.Histogram("todo_api_request_seconds", "Time to respond", ["route"], registry=None, buckets=BUCKETS)
        self.waiting = gauge("todo_api_pool_waiting", "Requests that wait for a database connection")
        self.in_use = gauge("todo_api_pool_in_use", "Database connections in use")
        self.size = gauge("todo_api_pool_size", "Database connections that the workers may open")

    def count(self, response: Response) -> None:
        if self.started_pid != os.getpid():
            self.start_process()
        # The method of an unknown route is up to the client, which could create series without end.
        route, method = (request.url_rule.rule, request.method) if request.url_rule else ("none", "any")
        self.requests.labels(route, method, response.status_code).inc()
        self.latency.labels(route).observe(time.perf_counter() - g.started)
        if response.status_code in (401, 403):
            self.auth_failures.labels(g.detail).inc()

    def start_process(self) -> None:
        """Prepare this process: threads do not survive a fork, and a cleaner of temporary files may have removed the folder."""
        self.started_pid = os.getpid()
        self.folder.mkdir(0o700, parents=True, exist_ok=True)
        threading.Thread(target=self.sample_pool, daemon=True).start()

    def sample_pool(self) -> None:
        """Update the gauges every second, also while all requests are stuck."""
        while True:
            with contextlib.suppress(Exception):  # `count` logs what is wrong with the folder
                self.waiting.set(self.pool.waiting)
                self.in_use.set(len(self.pool.in_use))
                self.size.set(self.pool.max_size)
            time.sleep(1)

    def serve(self) -> Response:
        if Path("/proc").exists():
            remove_leftovers(self.folder)
        return Response(self.client.generate_latest(self.registry), content_type=self.client.CONTENT_TYPE_LATEST)


def temporary_folder() -> Path:
    """Create a folder that is removed when this process ends."""
    folder, owner = Path(tempfile.mkdtemp(prefix="todo_metrics_")), os.getpid()

    @atexit.register
    def remove() -> None:
        if os.getpid() == owner:  # workers inherit the exit handlers
            shutil.rmtree(folder, ignore_errors=True)

    return folder


def remove_leftovers(folder: Path) -> None:
    """Remove the gauges of processes that have ended, and their empty files, which prometheus_client cannot read."""
    for file in folder.glob("*_*.db"):
        ended = not Path("/proc", file.stem.rpartition("_")[2]).exists()
        with contextlib.suppress(FileNotFoundError):  # another worker may remove it at the same time
            if ended and (file.name.startswith("gauge_live") or not file.stat().st_size):
                file.unlink()


class ScrapeCollector:
    """Metrics whose values are found at each scrape."""

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily  # noqa: PLC0415

        yield InfoMetricFamily("todo_api", "Version of the service", {"version": current_app.config["VERSION"]})
        pool: Pool = current_app.extensions["pool"]
        outage_log: OutageLog = current_app.extensions["outage_log"]
        key_store: KeyStore = current_app.extensions["verifier"].key_store
        if len(pool.in_use) < pool.max_size:  # otherwise the scrape would wait, so it reports the last known state
            try:
                db.execute("ready", {})
            except psycopg.Error as error:
                outage_log.record_failure(error)
        yield GaugeMetricFamily("todo_api_database_up", "1 if the database is available, else 0", not outage_log.began)
        key_store.load()
        ids = {kid for kid, _ in key_store.keys}
        yield GaugeMetricFamily("todo_api_jwks_keys", "Known public keys of the auth server", len(ids))
        if key_store.fetched:
            age = time.monotonic() - key_store.fetched
            yield GaugeMetricFamily("todo_api_jwks_age_seconds", "Time since the last successful fetch of keys", age)
