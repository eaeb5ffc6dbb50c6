"""What every answer carries, whatever it says: CORS, caching, the request's id."""

import functools
import random
import re

from flask import Flask, Response, g, request
from flask_cors import CORS
from werkzeug.test import create_environ

from todo_api.config import Config

PREFLIGHT_SECONDS = 7200  # the most that Chromium keeps
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
Grant = list[tuple[str, str]]  # headers


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
    # What flask-cors says to an origin is the same in every answer but those to preflights: it is asked once for each.
    grants = {origin: _granted(app, origin) for origin in config.origins}
    app.before_request(identify)
    app.after_request(functools.partial(complete, grants))


def _granted(app: Flask, origin: str) -> Grant:
    # Not test_request_context, which imports what is for tests down to a terminal's, where systemd would end the process.
    with app.request_context(create_environ(headers={"Origin": origin})):
        headers = app.process_response(app.response_class()).headers
    return [(name, value) for name, value in headers if name.startswith("Access-Control-")]


def identify() -> None:
    """Take the client's id for the request, or make one."""
    given = request.environ.get("HTTP_X_REQUEST_ID", "")
    g.request_id = given if REQUEST_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"


def complete(grants: dict[str, Grant], response: Response) -> Response:
    environ, headers = request.environ, response.headers
    headers.add("X-Request-Id", g.request_id)
    headers.add("Vary", "Authorization, Origin")
    if not any(name == "Cache-Control" for name, _ in headers):  # setdefault would make an HTTPException
        headers.add("Cache-Control", "no-store")
    if environ["REQUEST_METHOD"] != "OPTIONS":
        for name, value in grants.get(environ.get("HTTP_ORIGIN", ""), ()):
            headers.add(name, value)
    return response


def cacheable(response: Response) -> Response:
    """Let the client keep the answer and ask with its ETag whether it still holds: 304 (RFC 9110, section 13.1.2)."""
    response.headers["Cache-Control"] = "private, no-cache"
    if "HTTP_IF_NONE_MATCH" in request.environ and request.if_none_match.contains_weak(str(response.get_etag()[0])):
        response.status_code = 304  # for which werkzeug leaves out the body and what describes it
    return response
