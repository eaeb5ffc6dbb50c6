"""Who is calling: `login_required` turns the bearer token into `g.user_id`."""

import functools
import logging
from collections.abc import Callable
from typing import Any, NoReturn

import jwt
from flask import Flask, Response, abort, current_app, g, request

from todo_api.config import Config
from todo_api.jwks import PAUSE_SECONDS
from todo_api.tokens import Verifier

log = logging.getLogger(__name__)


def init_app(app: Flask, config: Config) -> None:
    app.extensions["verifier"] = Verifier(config)


def login_required(view: Callable[..., Response]) -> Callable[..., Response]:
    """Let only the user of the path call the view, which finds that user in `g.user_id` and gets no `user_id` argument.

    Answers 401 with a `WWW-Authenticate` challenge (RFC 6750, section 3) without a valid token and 403 for another user's path,
    before anything of the body or the database is touched.
    """

    @functools.wraps(view)
    def wrapper(user_id: str, **arguments: Any) -> Response:
        g.user_id = token_user = _user_id(_token())
        if token_user != user_id:
            log.warning("forbidden", extra={"token_user": token_user, "path_user": user_id})
            abort(403, "Access forbidden: user_id mismatch")
        return view(**arguments)

    return wrapper


def _token() -> str:
    header: str = request.environ.get("HTTP_AUTHORIZATION", "")
    scheme, _, token = header.strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        _refuse("Missing authorization token", "no bearer token", challenge="Bearer")
    return token.strip()


def _user_id(token: str) -> str:
    verifier: Verifier = current_app.extensions["verifier"]
    try:
        return verifier.user_id(token)
    except jwt.ExpiredSignatureError:
        _refuse("Token has expired", "expired")
    except jwt.PyJWKClientConnectionError:
        abort(503, "Service temporarily unavailable", retry_after=PAUSE_SECONDS)
    except (jwt.PyJWTError, ValueError) as error:
        nobody = isinstance(error, jwt.MissingRequiredClaimError) and error.claim == "sub"
        _refuse("Token missing user identifier" if nobody else "Invalid or malformed token", type(error).__name__)


def _refuse(detail: str, reason: str, challenge: str = 'Bearer error="invalid_token"') -> NoReturn:
    log.warning("unauthorized", extra={"detail": detail, "reason": reason, "path": request.path})
    # As text, since werkzeug's WWWAuthenticate would leave out the quotes that RFC 6750 writes.
    abort(401, detail, www_authenticate=[challenge])
