"""Who is calling: `login_required` turns the bearer token into `g.user_id`."""

import functools
import logging
from collections.abc import Callable
from typing import Any, NoReturn

import jwt
from flask import Flask, Response, abort, current_app, g, jsonify, request
from werkzeug.exceptions import ServiceUnavailable

from todo_api.config import Config
from todo_api.keys import PAUSE_SECONDS
from todo_api.tokens import Verifier

log = logging.getLogger(__name__)

View = Callable[..., Response]

MISSING = "Missing authorization token"
INVALID = "Invalid or malformed token"
EXPIRED = "Token has expired"
NO_USER = "Token missing user identifier"
FORBIDDEN = "Access forbidden: user_id mismatch"


def init_app(app: Flask, config: Config) -> None:
    app.extensions["verifier"] = Verifier(config)


def login_required(view: View) -> View:
    """Let only the user of the path call the view, which finds that user in `g.user_id` and gets no `user_id` argument.

    Answers 401 with a `WWW-Authenticate` challenge (RFC 6750, section 3) without a valid token and 403 for another user's path,
    before anything of the body or the database is touched.
    """

    @functools.wraps(view)
    def wrapper(user_id: str, **arguments: Any) -> Response:
        g.user_id = token_user = _user_id(_token())
        if token_user != user_id:
            log.warning("forbidden", extra={"token_user": token_user, "path_user": user_id, "method": request.method})
            g.refused = FORBIDDEN
            abort(403, FORBIDDEN)
        return view(**arguments)

    return wrapper


def _token() -> str:
    header: str = request.environ.get("HTTP_AUTHORIZATION", "")
    scheme, _, token = header.strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        _refuse(MISSING, "no bearer token")
    return token.strip()


def _user_id(token: str) -> str:
    verifier: Verifier = current_app.extensions["verifier"]
    try:
        return verifier.user_id(token)
    except jwt.ExpiredSignatureError:
        _refuse(EXPIRED, "expired")
    except jwt.PyJWKClientConnectionError:
        raise ServiceUnavailable("Service temporarily unavailable", retry_after=PAUSE_SECONDS) from None
    except (jwt.PyJWTError, ValueError) as error:
        nobody = isinstance(error, jwt.MissingRequiredClaimError) and error.claim == "sub"
        _refuse(NO_USER if nobody else INVALID, type(error).__name__)


def _refuse(detail: str, reason: str) -> NoReturn:
    g.refused = detail
    log.warning("unauthorized", extra={"detail": detail, "reason": reason, "method": request.method, "path": request.path})
    response = jsonify(detail=detail)
    response.status_code = 401
    # werkzeug's WWWAuthenticate would leave out the quotes that RFC 6750 writes.
    response.headers["WWW-Authenticate"] = "Bearer" if detail == MISSING else 'Bearer error="invalid_token"'
    abort(response)
