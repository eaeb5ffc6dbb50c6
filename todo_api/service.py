"""Flask and its responses, without what a service of JSON alone has no use for."""

from collections.abc import Callable
from typing import Any

from flask import Flask, Request, Response
from werkzeug.datastructures import Headers
from werkzeug.routing import MapAdapter


class Answer(Response):
    def get_wsgi_headers(self, environ: dict[str, Any]) -> Headers:
        """What was set; only an answer without a body wants completing. A copy of all, to correct it, takes 4 % of a request."""
        return self.headers if self.response else super().get_wsgi_headers(environ)


class Service(Flask):
    response_class = Answer

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """None is asynchronous; to look at each of them for each request takes 3 % of its time."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """For paths alone: the host, on which nothing depends, takes 4 % of a request to find."""
        if request is None:
            return None
        return MapAdapter(self.url_map, "", request.root_path, "", request.scheme, request.path, request.method)
