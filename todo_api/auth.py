"""Authentication: `login_required` checks the bearer token and sets `g.user_id`."""

import functools
import logging
from collections.abc import Callable
from typing import Any, NoReturn

import jwt
from flask import Flask, Response, abort, current_app, g, request

from todo_api.config import Config
from todo_api.jwks import RETRY_INTERVAL
from todo_api.tokens import Verifier

log = logging.getLogger(__name__)


def init_app(app: Flask, config: Config) -> None:
    app.extensions["verifier"] = Verifier(config)


def login_required(view: Callable[..., Response]) -> Callable[..., Response]:
    """Check the token against the path's `user_id` before the view runs. The view uses `g.user_id` instead of an argument.

    The response is 401 without a valid token and 403 on another user's path. The body is not read before these checks.
    """

    @functools.wraps(view)
    def wrapper(user_id: str, **arguments: Any) -> Response:
        scheme, _, token = request.headers.get("Authorization", "").strip().partition(" ")
        if scheme.lower() != "bearer" or not token:
            _refuse("Missing authorization token", "no bearer token", token_sent=False)
        g.user_id = token_user = _user_id(token.strip())
        if token_user != user_id:
            log.warning("forbidden", extra={"token_user": token_user, "path_user": user_id})
            abort(403, "Access forbidden: user_id mismatch")
        return view(**arguments)

    return wrapper


def _user_id(token: str) -> str:
    verifier: Verifier = current_app.extensions["verifier"]
    try:
        return verifier.user_id(token)
    except jwt.ExpiredSignatureError:
        _refuse("Token has expired", "expired")
    except jwt.PyJWKClientConnectionError:
        abort(503, "Service temporarily unavailable", retry_after=RETRY_INTERVAL)
    except (jwt.PyJWTError, ValueError) as error:
        no_user = isinstance(error, jwt.MissingRequiredClaimError) and error.claim == "sub"
        _refuse("Token missing user identifier" if no_user else "Invalid or malformed token", type(error).__name__)


def _refuse(detail: str, reason: str, *, token_sent: bool = True) -> NoReturn:
    log.warning("unauthorized", extra={"detail": detail, "reason": reason, "path": request.path})
    # RFC 6750, section 3. Not with werkzeug's class WWWAuthenticate, which omits the quotes around invalid_token.
    error = ', error="invalid_token"' if token_sent else ""
    abort(401, detail, www_authenticate=[f'Bearer realm="todo_api"{error}'])
