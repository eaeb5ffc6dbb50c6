"""Makes and verifies JSON Web Tokens (RFC 7519, RFC 8725)."""

import functools
import hashlib
import re
import time
from typing import Any

import jwt
from jwt.types import Options

from todo_api.config import Config
from todo_api.jwks import KEY_TYPES, KeyStore

LEEWAY_SECONDS = 5  # for `nbf` and `iat`, because the issuer's clock may be ahead; `exp` has no leeway
CACHE_SECONDS, CACHE_SIZE = 60, 10_000
# PyJWT would reject a null `sub`, which is fine if `user_id` names the user, and a malformed `jti`, which nothing uses.
OPTIONS = Options(verify_sub=False, verify_jti=False, enforce_minimum_key_length=True)
decode = functools.partial(jwt.decode, leeway=LEEWAY_SECONDS)
UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # PostgreSQL cannot store these characters


def make_token(user_id: str, secret: str, minutes: float) -> str:
    """Make an HS256 token for the user, as a frontend does."""
    now = int(time.time())
    return jwt.encode({"sub": user_id, "iat": now, "exp": now + round(minutes * 60)}, secret, "HS256")


class Verifier:
    """Verifies tokens.

    A token with HS256 is verified with the shared secrets. A token with any other algorithm is verified only with a published
    key of the type that KEY_TYPES lists for that algorithm. Verified tokens are cached. So a token stays valid for up to
    CACHE_SECONDS after KeyStore has dropped its key.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.key_store = KeyStore(config.jwks_url)
        self.cache: dict[bytes, tuple[str, float]] = {}  # digest of the token: user id, Unix time at which the entry expires

    def user_id(self, token: str) -> str:
        """Return the user of a valid token.

        Raises:
            jwt.ExpiredSignatureError: the token has expired.
            jwt.MissingRequiredClaimError: neither `sub` nor `user_id` names a user; the error's `claim` is then `sub`.
            jwt.PyJWKClientConnectionError: no fetch of the auth server's keys has succeeded yet.
            jwt.PyJWTError, ValueError: the token is otherwise invalid.
        """
        digest = hashlib.sha256(token.encode()).digest()
        user_id, expires = self.cache.get(digest, ("", 0.0))
        if time.time() >= expires:
            claims = self._claims(token)
            user_id, expires = _user(claims), time.time() + CACHE_SECONDS
            if "exp" in claims:
                expires = min(expires, int(claims["exp"]))
            if len(self.cache) >= CACHE_SIZE:
                self.cache.clear()
            self.cache[digest] = user_id, expires
        return user_id

    def _claims(self, token: str) -> dict[str, Any]:
        header = jwt.get_unverified_header(token)
        if not {"jku", "jwk", "x5u"}.isdisjoint(header):
            raise jwt.InvalidTokenError("names its own key")
        if (alg := str(header.get("alg"))) in KEY_TYPES:
            key, options = self.key_store.find(header.get("kid", ""), alg), OPTIONS | Options(require=["exp"])
            claims = decode(token, key, [alg], options, issuer=self.config.issuer, audience=self.config.audience)
        else:
            claims = self._claims_of_hs256(token)
        if "exp" in claims and int(claims["exp"]) <= time.time():  # again, because PyJWT applies the leeway to `exp` too
            raise jwt.ExpiredSignatureError
        return claims

    def _claims_of_hs256(self, token: str) -> dict[str, Any]:
        options = OPTIONS | Options(verify_aud=False)
        try:
            return decode(token, self.config.secret, ["HS256"], options)
        except jwt.InvalidSignatureError:
            if not self.config.previous_secret:
                raise
            return decode(token, self.config.previous_secret, ["HS256"], options)


def _user(claims: dict[str, Any]) -> str:
    user_id = next((claims[name] for name in ("sub", "user_id") if claims.get(name) not in (None, "")), None)
    if user_id is None:
        raise jwt.MissingRequiredClaimError("sub")
    if not isinstance(user_id, str) or len(user_id) > 255 or UNSTORABLE.search(user_id):
        raise jwt.InvalidTokenError("unusable user id")
    return user_id
