"""Overrides of undocumented Flask and werkzeug methods that make a request faster; docs/performance.md lists them."""

from typing import Any

from flask import Flask, Request, Response
from werkzeug.datastructures import Headers
from werkzeug.routing import MapAdapter


class ApiResponse(Response):
    def get_wsgi_headers(self, environ: dict[str, Any]) -> Headers:
        """Skip werkzeug's corrections for a success with a body: Content-Length is set, and Location is already a valid URL."""
        if self.response and self.status_code < 300:
            return self.headers
        return super().get_wsgi_headers(environ)


class TodoApp(Flask):
    response_class = ApiResponse

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Match by path alone: no route depends on the host. Settings that concern the host get Flask's own method."""
        if request is None or self.config["SERVER_NAME"] or self.config["TRUSTED_HOSTS"]:
            return super().create_url_adapter(request)
        return MapAdapter(self.url_map, "", request.root_path, "", request.scheme, request.path, request.method)
