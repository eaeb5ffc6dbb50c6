"""What the service shows of itself where it is told to: a record of each request, and numbers for Prometheus."""

import functools
import logging
import os
import time

from flask import Flask, Response, g, request

from todo_api.config import Config
from todo_api.pool import Pool

log = logging.getLogger("todo_api.access")

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)  # seconds


def init_app(app: Flask, config: Config) -> None:
    """Watch requests if a setting asks for it; otherwise none of them passes here.

    Called before the parts whose time is measured: Flask asks who came first about requests first, about answers last.
    """
    if not (config.access_log or config.metrics):
        return
    if config.access_log:
        app.after_request(record)
    if config.metrics:
        count(app)

    @app.before_request
    def start() -> None:
        g.started = time.perf_counter()


def record(response: Response) -> Response:
    """Log the rule of the path, never the path: it holds ids, and whatever a client makes up."""
    seconds, database = time.perf_counter() - g.started, g.get("database_seconds", 0)
    fields = {"user": g.get("user_id"), "route": request.url_rule and request.url_rule.rule, "status": response.status_code}
    times = {"milliseconds": round(seconds * 1000, 3), "database_milliseconds": round(database * 1000, 3)}
    log.info("answered", extra={**fields, **times})
    return response


def count(app: Flask) -> None:
    """Serve `/metrics`, the sum over all processes that share PROMETHEUS_MULTIPROC_DIR, and count into it."""
    import prometheus_client as client  # noqa: PLC0415, whose import decides by that variable, and which few need
    from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

    registry = client.CollectorRegistry()
    own = None if "PROMETHEUS_MULTIPROC_DIR" in os.environ else registry
    if not own:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    requests = client.Counter("todo_api_requests", "Answers", ["route", "method", "status"], registry=own)
    latency = client.Histogram("todo_api_request_seconds", "Time to answer", ["route"], registry=own, buckets=BUCKETS)
    refused = client.Counter("todo_api_auth_failures", "Answers 401 and 403", ["reason"], registry=own)
    gauge = functools.partial(client.Gauge, multiprocess_mode="livesum", registry=own)
    waiting = gauge("todo_api_pool_waiting", "Requests that wait for a database connection")
    in_use = gauge("todo_api_pool_in_use", "Database connections in use")
    pool: Pool = app.extensions["pool"]

    @app.before_request
    @app.teardown_request
    def watch_pool(*_: object) -> None:
        waiting.set(pool.waiting)
        in_use.set(len(pool.in_use))

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(client.generate_latest(registry), content_type=client.CONTENT_TYPE_LATEST)

    @app.after_request
    def observe(response: Response) -> Response:
        # Where no route matches, the method may be anything: a client could make up series without end.
        route, method = (request.url_rule.rule, request.method) if request.url_rule else ("none", "any")
        requests.labels(route, method, response.status_code).inc()
        latency.labels(route).observe(time.perf_counter() - g.started)
        if response.status_code in (401, 403):
            refused.labels(g.detail).inc()
        return response
