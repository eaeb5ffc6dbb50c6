"""Health checks, openapi.json, and the interactive documentation."""

import datetime

from flask import Blueprint, Flask, Response, current_app, jsonify, redirect

from todo_api import db, validation
from todo_api.config import Config
from todo_api.etags import conditional

bp = Blueprint("health", __name__)
SWAGGER_UI = {  # https://swagger.io/docs/open-source-tools/swagger-ui/usage/configuration/
    "app_name": "todo_api",
    "layout": "BaseLayout",  # without the bar at the top
    "tryItOutEnabled": True,
    "persistAuthorization": True,
    "defaultModelsExpandDepth": 0,  # the schemas at the end of the page start closed
    "validatorUrl": None,  # off, because the validator is an external service
}


def init_app(app: Flask, config: Config) -> None:
    app.register_blueprint(bp)
    if config.debug:
        from flask_swagger_ui import get_swaggerui_blueprint  # noqa: PLC0415, production does not need it

        app.register_blueprint(get_swaggerui_blueprint("/docs", "/openapi.json", SWAGGER_UI))
        app.add_url_rule("/", "root", lambda: redirect("/docs/"))


@bp.get("/health")
def health() -> Response:
    """200 while the process runs. Does not use the database."""
    now = datetime.datetime.now(datetime.UTC).isoformat()
    return jsonify(status="healthy", version=current_app.config["VERSION"], timestamp=now)


@bp.get("/ready")
def ready() -> Response:
    """200 if the database answers, otherwise 503."""
    db.execute("ready", {})
    return jsonify(status="ready")


@bp.get("/openapi.json")
def openapi() -> Response:
    """The API description. Requests are validated against it."""
    response = Response(validation.DOCUMENT.read_bytes(), mimetype="application/json")
    response.add_etag()
    return conditional(response)
