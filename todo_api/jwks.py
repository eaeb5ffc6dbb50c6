"""The public keys that the Better Auth server publishes as a JWK Set (RFC 7517)."""

import contextlib
import http.client
import json
import logging
import mmap
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import gevent
import jwt

log = logging.getLogger(__name__)

FETCH_SECONDS = 3  # limit for a whole fetch with gevent, and for each socket operation without it
RETRY_INTERVAL = 15  # seconds from the start of a fetch to the start of the next
STALE_SECONDS = 300  # after this time the next use of a key starts a fetch
MAX_BYTES = 1_000_000
KEY_TYPES = {  # `kty` and `crv` of the keys for each `alg`
    "EdDSA": ("OKP", "Ed25519"),
    "ES256": ("EC", "P-256"),
    "ES512": ("EC", "P-521"),
    "PS256": ("RSA", None),
    "RS256": ("RSA", None),
}


class SharedJson:
    """A JSON value in memory that is shared with every process forked after `__init__`."""

    def __init__(self, size: int) -> None:
        self.memory = mmap.mmap(-1, size)  # the text, ended by NUL
        self.last_read = b""

    def write(self, value: Any) -> None:
        text = json.dumps(value).encode()
        self.memory[: len(text) + 1] = text + b"\0"

    def read_new(self) -> Any:
        """Return the value, or None if it is the one read last, or if another process is writing it now."""
        text = self.memory[: self.memory.find(b"\0")]
        if text == self.last_read:
            return None
        try:
            value = json.loads(text)
        except ValueError:
            return None
        self.last_read = text
        return value


class KeyStore:
    """Finds keys. It returns a known key at once, even while the auth server is down. PyJWT's PyJWKClient would wait.

    The keys are shared with every process forked after `__init__`. A withdrawn key is used until the next successful fetch.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: dict[tuple[str, str], jwt.PyJWK] = {}  # by `kid` and `alg`, as of the last `load()`
        # Monotonic time of the last successful fetch by any process; 0 if there was none. `load()` updates it. A 404 as the first
        # response counts too: the server has no keys.
        self.fetched = 0.0
        self.next_fetch = 0.0  # monotonic time before which this process does not start another fetch
        self.fetch_lock = threading.Lock()
        self.shared = SharedJson(2 * MAX_BYTES)  # `fetched` and all published keys

    def find(self, kid: str, alg: str) -> jwt.PyJWK:
        """Return the key. If it is unknown, wait for one fetch.

        Raises:
            jwt.PyJWKClientConnectionError: no fetch has succeeded yet.
            jwt.InvalidKeyError: the key is not among those that were fetched last.
        """
        self.load()
        if (kid, alg) not in self.keys:
            self._fetch()
            self.load()
        elif time.monotonic() > max(self.fetched + STALE_SECONDS, self.next_fetch):
            threading.Thread(target=self._fetch, daemon=True).start()
        if not self.fetched:
            raise jwt.PyJWKClientConnectionError("no keys yet")
        if (kid, alg) not in self.keys:
            raise jwt.InvalidKeyError("not published")
        return self.keys[kid, alg]

    def load(self) -> None:
        """Read the keys that any process has fetched since the last call."""
        if new := self.shared.read_new():
            self.fetched, jwks = new
            self.keys = usable(jwks)

    def _fetch(self) -> None:
        """Fetch the keys, unless a fetch began less than RETRY_INTERVAL ago. While one is running, others wait for it."""
        with self.fetch_lock:
            if time.monotonic() < self.next_fetch:
                return
            self.next_fetch = time.monotonic() + RETRY_INTERVAL
            received = "none"
            try:
                with gevent.Timeout(FETCH_SECONDS):  # a socket's own timeout starts again with each byte
                    status, content_type, text = download(self.url)
                received = f"status {status}, {content_type}, {len(text)} bytes"
                if status == 404 and not self.fetched:
                    self.shared.write([time.monotonic(), []])
                if status != 200 or len(text) > MAX_BYTES:
                    raise ValueError
                jwks = json.loads(text)["keys"]
                if not isinstance(jwks, list):
                    raise ValueError
                self.shared.write([time.monotonic(), jwks])
            except (Exception, gevent.Timeout) as error:
                fields = {"url": self.url.partition("?")[0], "error": type(error).__name__, "response": received}
                log.warning("keys not fetched", extra=fields)


def usable(jwks: list[Any]) -> dict[tuple[str, str], jwt.PyJWK]:
    """Return the public signing keys, each only for algorithms of its own type."""
    keys = {}
    for jwk in jwks:
        for alg, kind in KEY_TYPES.items():
            with contextlib.suppress(Exception):  # a broken key must not affect the others
                verifies = jwk.get("use", "sig") == "sig" and "verify" in jwk.get("key_ops", ["verify"])
                is_public = "d" not in jwk
                if verifies and is_public and (jwk.get("kty"), jwk.get("crv")) == kind and jwk.get("alg", alg) == alg:
                    keys[jwk["kid"], alg] = jwt.PyJWK(jwk, alg)
    return keys


def download(url: str) -> tuple[int, str, bytes]:
    """GET the URL; return status, content type and body, cut off after MAX_BYTES + 1."""
    target = urlsplit(url)
    connection_class = http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
    with contextlib.closing(connection_class(target.netloc, timeout=FETCH_SECONDS)) as connection:
        connection.request("GET", f"{target.path}?{target.query}".rstrip("?"))
        with connection.getresponse() as response:
            return response.status, response.headers.get_content_type(), response.read(MAX_BYTES + 1)
