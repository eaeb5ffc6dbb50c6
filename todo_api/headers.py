"""Headers of every response: CORS, caching, the id of the request."""

import logging
import random
import re

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
    # flask-cors takes an origin with brackets (IPv6) for a regular expression, which it matches only at the beginning.
    origins = [re.compile(re.escape(origin) + r"\Z") if "[" in origin else origin for origin in config.origins]
    preflight = cross_origin(
        origins=[*origins, LOCALHOST] if config.allow_localhost else origins,
        supports_credentials=True,
        methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "If-Match", "If-None-Match", "Idempotency-Key", "X-Request-Id"],
        max_age=PREFLIGHT_SECONDS,
        always_send=False,
        vary_header=False,  # `complete` adds it
        automatic_options=False,
    )(no_content)
    rejected: set[str] = set()

    def is_allowed(origin: str) -> bool:
        allowed = origin in config.origins or (config.allow_localhost and LOCALHOST.match(origin) is not None)
        if not allowed and len(rejected) < MAX_LOGGED_ORIGINS and origin not in rejected:
            rejected.add(origin)
            log.warning("CORS rejects this origin; BETTER_AUTH_URL lists the allowed ones", extra={"origin": origin})
        return allowed

    @app.before_request
    def begin() -> Response | None:
        """Set the request id, and answer preflights, also for unknown paths, so that a page can read the 404 of the request."""
        sent_id = request.headers.get("X-Request-Id", "")
        g.request_id = sent_id if REQUEST_ID.fullmatch(sent_id) else f"{random.getrandbits(128):032x}"
        is_preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        return preflight() if is_preflight else None

    @app.after_request
    def complete(response: Response) -> Response:
        headers = response.headers
        headers.add("X-Request-Id", g.request_id)
        headers.add("Vary", "Authorization, Origin")
        headers.setdefault("Cache-Control", "no-store")
        origin = request.headers.get("Origin")
        if origin and is_allowed(origin) and request.method != "OPTIONS":  # flask-cors adds the headers of a preflight
            headers.add("Access-Control-Allow-Origin", origin)
            headers.add("Access-Control-Allow-Credentials", "true")
            headers.add("Access-Control-Expose-Headers", EXPOSED)
        return response
