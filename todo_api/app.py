"""Flask and its responses, without what a service of JSON alone has no use for."""

from typing import Any

from flask import Flask, Request, Response
from werkzeug.datastructures import Headers
from werkzeug.routing import MapAdapter


class TaskResponse(Response):
    def get_wsgi_headers(self, environ: dict[str, Any]) -> Headers:
        """What was set, where a body came with its length; to look for what else may want correcting takes 4 % of a request."""
        plain = self.response and self.status_code < 300
        return self.headers if plain else super().get_wsgi_headers(environ)


class TodoApp(Flask):
    response_class = TaskResponse

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """For paths alone: the host, on which no route depends, takes 4 % of a request to find."""
        if request is None:
            return None
        return MapAdapter(self.url_map, "", request.root_path, "", request.scheme, request.path, request.method)
