"""What the service says of itself."""

import datetime

from flask import Blueprint, Response, jsonify

from todo_api import contract

bp = Blueprint("meta", __name__)


@bp.get("/health")
def health() -> Response:
    """The process lives; the database is not asked."""
    response = jsonify(status="healthy", timestamp=datetime.datetime.now(datetime.UTC).isoformat())
    response.cache_control.no_store = True
    return response


@bp.get("/openapi.json")
def openapi() -> bytes:
    return contract.DOCUMENT.read_bytes()
