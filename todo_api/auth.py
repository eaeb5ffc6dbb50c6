"""Who is calling: `login_required` turns the bearer token into `g.user_id`."""

import functools
import logging
import time
from collections.abc import Callable
from typing import Any, NoReturn

import jwt
from flask import Flask, Response, abort, current_app, g, jsonify, request

from todo_api.config import Config

log = logging.getLogger(__name__)

LEEWAY_SECONDS = 5  # for `nbf` and `iat`: the frontend's clock may be ahead of ours
MAX_USER_ID = 255  # code points
UNSTORABLE = frozenset(map(chr, (0, *range(0xD800, 0xE000))))  # what no PostgreSQL text can hold

View = Callable[..., Response]

MISSING = "Missing authorization token"
INVALID = "Invalid or malformed token"
EXPIRED = "Token has expired"
NO_USER = "Token missing user identifier"


def init_app(app: Flask, config: Config) -> None:
    app.extensions["auth"] = config.secret


def login_required(view: View) -> View:
    """Let only the user of the path call the view, which finds that user in `g.user_id` and gets no `user_id` argument.

    Answers 401 with a `WWW-Authenticate` challenge (RFC 6750, section 3) without a valid token and 403 for another user's path,
    before anything of the body or the database is touched.
    """

    @functools.wraps(view)
    def wrapper(user_id: str, **arguments: Any) -> Response:
        g.user_id = _user_id(_claims(_token()))
        if g.user_id != user_id:
            log.warning("forbidden", extra={"token_user": g.user_id, "path_user": user_id, "method": request.method})
            abort(403, "Access forbidden: user_id mismatch")
        return view(**arguments)

    return wrapper


def sign(user_id: str, secret: str, minutes: float) -> str:
    """An HS256 token for the user, as frontends make them."""
    now = int(time.time())
    return jwt.encode({"sub": user_id, "iat": now, "exp": now + round(minutes * 60)}, secret, "HS256")


def _token() -> str:
    scheme, _, token = request.headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        _refuse(MISSING, "none")
    return token.strip()


def _claims(token: str) -> dict[str, Any]:
    """The claims of a token whose signature and times hold. Tokens with any audience or issuer are accepted."""
    options: Any = {"verify_aud": False, "verify_sub": False, "verify_jti": False}
    try:
        claims = jwt.decode(token, current_app.extensions["auth"], ["HS256"], options=options, leeway=LEEWAY_SECONDS)
        if "exp" in claims and int(claims["exp"]) <= time.time():  # the leeway is not for `exp`
            raise jwt.ExpiredSignatureError
    except jwt.ExpiredSignatureError:
        _refuse(EXPIRED, "expired")
    except (jwt.PyJWTError, ValueError) as error:
        _refuse(INVALID, type(error).__name__)
    return claims


def _user_id(claims: dict[str, Any]) -> str:
    user_id = claims.get("sub") or claims.get("user_id")
    if user_id is None or user_id == "":
        _refuse(NO_USER, "no sub or user_id")
    if not isinstance(user_id, str) or len(user_id) > MAX_USER_ID or not UNSTORABLE.isdisjoint(user_id):
        _refuse(INVALID, "unusable user id")
    return user_id


def _refuse(detail: str, reason: str) -> NoReturn:
    log.warning("unauthorized", extra={"detail": detail, "reason": reason, "method": request.method, "path": request.path})
    response = jsonify(detail=detail)
    response.status_code = 401
    # werkzeug's WWWAuthenticate would leave out the quotes that RFC 6750 writes.
    response.headers["WWW-Authenticate"] = "Bearer" if detail == MISSING else 'Bearer error="invalid_token"'
    abort(response)
