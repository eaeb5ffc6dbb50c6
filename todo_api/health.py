"""What the service says of itself."""

import datetime

from flask import Blueprint, Flask, Response, current_app, jsonify

from todo_api import db, validation
from todo_api.config import Config
from todo_api.etags import cacheable

bp = Blueprint("health", __name__)


def init_app(app: Flask, config: Config) -> None:
    app.register_blueprint(bp)
    if config.debug:
        from flask_swagger_ui import get_swaggerui_blueprint  # noqa: PLC0415, only DEBUG needs it

        options = {"app_name": "todo_api", "persistAuthorization": True, "tryItOutEnabled": True, "validatorUrl": None}
        app.register_blueprint(get_swaggerui_blueprint("/docs", "/openapi.json", options))


@bp.get("/health")
def health() -> Response:
    """The process lives; the database is not asked."""
    return jsonify(
        status="healthy", version=current_app.config["VERSION"], timestamp=datetime.datetime.now(datetime.UTC).isoformat()
    )


@bp.get("/ready")
def ready() -> Response:
    """The database answers; a 503 when it does not."""
    db.execute("ready")
    return jsonify(status="ready")


@bp.get("/openapi.json")
def openapi() -> Response:
    response = Response(validation.DOCUMENT.read_bytes(), mimetype="application/json")
    response.add_etag()
    return cacheable(response)
