"""Whom a JSON Web Token names (RFC 7519, RFC 8725)."""

import functools
import hashlib
import threading
import time
from typing import Any

import jwt
from jwt.types import Options

from todo_api.config import Config
from todo_api.jwks import TYPES, KeyStore

LEEWAY_SECONDS = 5  # for `nbf` and `iat`, since the issuer's clock may be ahead of ours; none for `exp`
REMEMBERED_SECONDS = 60  # a withdrawn key or secret is not honoured for longer
MAX_REMEMBERED = 10_000
MAX_USER_ID = 255  # code points
UNSTORABLE = frozenset(map(chr, (0, *range(0xD800, 0xE000))))  # what no PostgreSQL text can hold
FOREIGN_KEYS = {"jku", "jwk", "x5u"}  # headers by which a token would name the key to trust


def sign(user_id: str, secret: str, minutes: float) -> str:
    """An HS256 token for the user, as frontends make them."""
    now = int(time.time())
    return jwt.encode({"sub": user_id, "iat": now, "exp": now + round(minutes * 60)}, secret, "HS256")


class Verifier:
    """Checks tokens: HS256 with the shared secrets alone, asymmetric algorithms with published keys of their own type."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.keys = KeyStore(config.jwks_url)
        self.remembered: dict[bytes, tuple[str, float]] = {}  # by digest of the token: user id, Unix time until which it holds
        self.lock = threading.Lock()

    def user_id(self, token: str) -> str:
        """The user of a valid token.

        Raises:
            jwt.ExpiredSignatureError: it was valid once.
            jwt.MissingRequiredClaimError: of the claim `sub`, it names nobody.
            jwt.PyJWKClientConnectionError: its key cannot be had for now.
            jwt.PyJWTError: anything else.
        """
        digest = hashlib.sha256(token.encode()).digest()
        user_id, until = self.remembered.get(digest, ("", 0.0))
        if time.time() >= until:
            claims = self._claims(token)
            user_id, until = _user(claims), min(int(claims.get("exp", 2**63)), time.time() + REMEMBERED_SECONDS)
            with self.lock:
                if len(self.remembered) >= MAX_REMEMBERED:
                    del self.remembered[next(iter(self.remembered))]
                self.remembered[digest] = user_id, until
        return user_id

    def _claims(self, token: str) -> dict[str, Any]:
        header = jwt.get_unverified_header(token)
        if not FOREIGN_KEYS.isdisjoint(header):
            raise jwt.InvalidTokenError("names its own key")
        options: Options = {"verify_sub": False, "verify_jti": False}
        decode = functools.partial(jwt.decode, token, leeway=LEEWAY_SECONDS)
        if (alg := str(header.get("alg"))) in TYPES:
            key = self.keys.find(header.get("kid", ""), alg)
            if key is None:
                raise jwt.InvalidKeyError("not published")
            claims = decode(key, [alg], {**options, "require": ["exp"]}, issuer=self.config.issuer, audience=self.config.audience)
        else:
            options["verify_aud"] = False
            try:
                claims = decode(self.config.secret, ["HS256"], options)
            except jwt.InvalidSignatureError:
                claims = decode(self.config.previous_secret or self.config.secret, ["HS256"], options)
        if "exp" in claims and int(claims["exp"]) <= time.time():
            raise jwt.ExpiredSignatureError
        return claims


def _user(claims: dict[str, Any]) -> str:
    user_id = next((claims[name] for name in ("sub", "user_id") if claims.get(name) not in (None, "")), None)
    if user_id is None:
        raise jwt.MissingRequiredClaimError("sub")
    if not isinstance(user_id, str) or len(user_id) > MAX_USER_ID or not UNSTORABLE.isdisjoint(user_id):
        raise jwt.InvalidTokenError("unusable user id")
    return user_id
