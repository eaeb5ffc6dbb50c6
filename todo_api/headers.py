"""What every answer carries, whatever it says: CORS, caching, the request's id."""

import re
import uuid

from flask import Flask, Response, g, request
from flask_cors import CORS

from todo_api.config import Config

PREFLIGHT_SECONDS = 7200  # the most that Chromium keeps
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def init_app(app: Flask, config: Config) -> None:
    CORS(
        app,
        # flask-cors takes brackets for a regular expression and matches only its beginning.
        origins=[re.compile(re.escape(origin) + r"\Z") if "[" in origin else origin for origin in config.origins],
        supports_credentials=True,
        methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "If-Match", "If-None-Match", "Idempotency-Key", "X-Request-Id"],
        expose_headers=["ETag", "Link", "Location", "Retry-After", "X-Request-Id"],
        max_age=PREFLIGHT_SECONDS,
        always_send=False,
        vary_header=False,  # it leaves out `Vary: Origin` when a single origin is configured
        intercept_exceptions=False,  # errors.py answers each of them, and after_request sees those answers
    )
    app.before_request(identify)
    app.after_request(complete)


def identify() -> None:
    """Take the client's id for the request, or make one."""
    given = request.headers.get("X-Request-Id", "")
    g.request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def complete(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    response.headers["Vary"] = "Authorization, Origin"
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def cacheable(response: Response) -> Response:
    """Let the client keep the answer and ask with its ETag whether it still holds: 304 (RFC 9110, section 13.1.2)."""
    response.add_etag()
    response.headers["Cache-Control"] = "private, no-cache"
    tag, _ = response.get_etag()
    if tag and request.if_none_match.contains_weak(tag):
        response.status_code = 304
        response.set_data(b"")
        del response.headers["Content-Type"], response.headers["Content-Length"]
    return response
