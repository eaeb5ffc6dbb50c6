"""Metrics for Prometheus. Imported only if METRICS is true."""

import contextlib
import functools
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from flask import Response, current_app, g, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

from todo_api import db, errors
from todo_api.pool import Pool

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)  # seconds


class Metrics:
    """The metrics of all processes that fork after `__init__`. Each process writes its own to files in the folder."""

    def __init__(self, pool: Pool, folder: str) -> None:
        self.pool, self.folder = pool, Path(folder)
        self.started_process = 0  # the id of the process that has called `start_process`
        self.registry = CollectorRegistry()
        MultiProcessCollector(self.registry)  # type: ignore[no-untyped-call]
        self.registry.register(ScrapeCollector())
        # MultiProcessCollector reads the files, so these are in no registry.
        counter = functools.partial(Counter, registry=None)
        gauge = functools.partial(Gauge, multiprocess_mode="livesum", registry=None)
        self.requests = counter("todo_api_requests", "Responses", ["route", "method", "status"])
        self.refused = counter("todo_api_auth_failures", "Responses with status 401 or 403", ["reason"])
        self.latency = Histogram("todo_api_request_seconds", "Time to respond", ["route"], registry=None, buckets=BUCKETS)
        self.waiting = gauge("todo_api_pool_waiting", "Requests that wait for a database connection")
        self.in_use = gauge("todo_api_pool_in_use", "Database connections in use")
        self.size = gauge("todo_api_pool_size", "Database connections that the workers may open")

    def count(self, response: Response) -> None:
        if self.started_process != os.getpid():
            self.start_process()
        # The method of an unknown route is up to the client, which could create series without end.
        route, method = (request.url_rule.rule, request.method) if request.url_rule else ("none", "any")
        self.requests.labels(route, method, response.status_code).inc()
        self.latency.labels(route).observe(time.perf_counter() - g.started)
        if response.status_code in (401, 403):
            self.refused.labels(g.detail).inc()

    def start_process(self) -> None:
        """Prepare this process: threads do not survive a fork, and a cleaner of temporary files may have removed the folder."""
        self.started_process = os.getpid()
        self.folder.mkdir(0o700, parents=True, exist_ok=True)
        threading.Thread(target=self.sample_pool, daemon=True).start()

    def sample_pool(self) -> None:
        """Update the gauges every second, also while all requests are stuck."""
        while True:
            with contextlib.suppress(Exception):  # monitoring.py logs what is wrong with the folder
                self.waiting.set(self.pool.waiting)
                self.in_use.set(len(self.pool.in_use))
                self.size.set(self.pool.max_size)
            time.sleep(1)

    def serve(self) -> Response:
        if Path("/proc").exists():
            remove_leftovers(self.folder)
        return Response(generate_latest(self.registry), content_type=CONTENT_TYPE_LATEST)


def remove_leftovers(folder: Path) -> None:
    """Remove the gauges of processes that have ended, and their empty files, which prometheus_client cannot read."""
    for file in folder.glob("*_*.db"):
        ended = not Path("/proc", file.stem.rpartition("_")[2]).exists()
        if ended and (file.name.startswith("gauge_live") or not file.stat().st_size):
            file.unlink(missing_ok=True)


class ScrapeCollector:
    """Metrics whose values are found at each scrape."""

    def collect(self) -> Iterator[Any]:
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
