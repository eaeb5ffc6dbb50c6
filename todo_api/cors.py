"""Which browsers' pages may call, and read the answers."""

import re

from flask import Flask, Response
from flask_cors import CORS

from todo_api.config import Config

PREFLIGHT_SECONDS = 7200  # the most that Chromium keeps


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
        vary_header=False,
        intercept_exceptions=False,  # errors.py answers each of them, and after_request sees those answers
    )
    app.after_request(vary_on_origin)


def vary_on_origin(response: Response) -> Response:
    """flask-cors leaves this out when a single origin is configured, though the answer differs for a page of another origin."""
    response.vary.add("Origin")
    return response
