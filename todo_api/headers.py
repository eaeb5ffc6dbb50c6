"""Headers of every response: CORS, caching, the id of the request."""

import logging
import random
import re
import time

from flask import Flask, Response, g, request
from flask_cors import cross_origin

from todo_api.config import Config

log = logging.getLogger(__name__)

PREFLIGHT_SECONDS = 7200  # the most that Chromium keeps
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
LOCALHOST = re.compile(r"http://(localhost|127\.0\.0\.1)(:\d+)?\Z")
EXPOSED = "ETag, Idempotency-Replayed, Link, Location, Retry-After, X-Request-Id"
MAX_LOGGED_ORIGINS = 100


def no_content() -> Response:
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


def init_app(app: Flask, config: Config) -> None:
    preflight = cross_origin(
        origins=re.compile(".*"),  # called only if `check_origin` allows the origin
        supports_credentials=True,
        methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "If-Match", "If-None-Match", "Idempotency-Key", "X-Request-Id"],
        max_age=PREFLIGHT_SECONDS,
        always_send=False,
        vary_header=False,  # `complete` adds it
        automatic_options=False,
    )(no_content)
    rejected: set[str] = set()

    def check_origin(origin: str) -> bool:
        """Return whether CORS allows the origin. Log each origin once if it is not allowed."""
        allowed = origin in config.origins or (config.allow_localhost and LOCALHOST.match(origin) is not None)
        is_new = origin not in rejected and len(rejected) < MAX_LOGGED_ORIGINS
        if not allowed and is_new and not origin.endswith(f"://{request.host}"):  # the page at /docs needs no CORS
            rejected.add(origin)
            log.warning("CORS rejects this origin; BETTER_AUTH_URL lists the allowed ones", extra={"origin": origin})
        return allowed

    @app.before_request
    def begin() -> Response | None:
        """Set the start time and the id of the request. Answer preflights, even for paths whose request will get a 404."""
        g.started = time.perf_counter()
        sent_id = request.headers.get("X-Request-Id", "")
        g.request_id = sent_id if REQUEST_ID.fullmatch(sent_id) else f"{random.getrandbits(128):032x}"
        if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
            return None
        origin = request.headers.get("Origin")
        return preflight() if origin and check_origin(origin) else no_content()

    @app.after_request
    def complete(response: Response) -> Response:
        headers = response.headers
        headers.add("X-Request-Id", g.request_id)
        headers.add("Vary", "Authorization, Origin")
        headers.setdefault("Cache-Control", "no-store")
        origin = request.headers.get("Origin")
        if origin and request.method != "OPTIONS" and check_origin(origin):  # flask-cors adds the headers of a preflight
            headers.add("Access-Control-Allow-Origin", origin)
            headers.add("Access-Control-Allow-Credentials", "true")
            headers.add("Access-Control-Expose-Headers", EXPOSED)
        return response
