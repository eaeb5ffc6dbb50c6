"""The public keys that the Better Auth server publishes (RFC 7517)."""

import contextlib
import http.client
import json
import logging
import socket
import threading
import time
from urllib.parse import urlsplit

import jwt

log = logging.getLogger(__name__)

FETCH_SECONDS = 3  # how long a fetch may take, and a request wait for it
PAUSE_SECONDS = 15  # from one fetch to the next, also after a failure
STALE_SECONDS = 300  # the age at which a use of the keys starts a fetch in the background
MAX_BYTES = 1_000_000
TYPES = {  # by `alg`: the `kty` and `crv` of its keys
    "EdDSA": ("OKP", "Ed25519"),
    "ES256": ("EC", "P-256"),
    "ES512": ("EC", "P-521"),
    "PS256": ("RSA", None),
    "RS256": ("RSA", None),
}
Keys = dict[tuple[str, str], jwt.PyJWK]


class KeyStore:
    """Keys by `kid` and `alg`. A request whose key is known never waits, and an outage of the server costs no key.

    PyJWT's own PyJWKClient fetches under a lock that valid tokens wait for, once a request while the server is down, and without
    a limit to the answer's size.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: Keys = {}
        self.away = True  # until the server has answered once: with keys, or that there are none
        self.fetched = float("-inf")  # monotonic time of the last fetch
        self.idle = threading.Event()  # not set while a fetch runs
        self.idle.set()
        self.lock = threading.Lock()

    def find(self, kid: str, alg: str) -> jwt.PyJWK | None:
        """The key, or None when the server does not publish it, as known now or after the one fetch that this may start.

        Raises:
            jwt.PyJWKClientConnectionError: the server has never answered.
        """
        if (kid, alg) not in self.keys or time.monotonic() > self.fetched + STALE_SECONDS:
            self._fetch_in_background()
        if (kid, alg) not in self.keys:
            self.idle.wait(FETCH_SECONDS)
        if self.away:
            raise jwt.PyJWKClientConnectionError("no keys yet")
        return self.keys.get((kid, alg))  # also one of a fetch that has ended since the first look

    def _fetch_in_background(self) -> None:
        """Start a fetch, unless one runs or it is too early for another."""
        with self.lock:
            if self.idle.is_set() and time.monotonic() > self.fetched + PAUSE_SECONDS:
                self.idle.clear()
                threading.Thread(target=self._fetch, name="keys", daemon=True).start()

    def _fetch(self) -> None:
        try:
            self.keys = parse(download(self.url))
            self.away = False
        except Exception as error:
            self.away &= not isinstance(error, FileNotFoundError)
            log.warning("keys not fetched", extra={"url": self.url.partition("?")[0], "error": type(error).__name__})
        self.fetched = time.monotonic()
        self.idle.set()


def parse(text: bytes) -> Keys:
    """The signing keys of a JWK Set that one of our algorithms can use; each serves the algorithms of its own type alone."""
    keys = {}
    for jwk in json.loads(text)["keys"]:
        for alg, kind in TYPES.items():
            # One broken key spoils no other.
            with contextlib.suppress(jwt.PyJWTError, AttributeError, LookupError, TypeError):
                if (jwk.get("kty"), jwk.get("crv")) == kind and jwk.get("alg", alg) == alg and jwk.get("use", "sig") == "sig":
                    keys[jwk["kid"], alg] = jwt.PyJWK(jwk, alg)
    return keys


def download(url: str) -> bytes:
    """The body of a 200 answer, or an exception of any kind.

    Follows no redirect, and gives up after `FETCH_SECONDS` however slowly the server dribbles.
    """
    target = urlsplit(url)
    connect = http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
    with contextlib.closing(connect(target.netloc, timeout=FETCH_SECONDS)) as connection:
        connection.connect()
        limit = threading.Timer(FETCH_SECONDS, connection.sock.shutdown, [socket.SHUT_RDWR])
        limit.start()
        try:
            connection.request("GET", f"{target.path}?{target.query}".rstrip("?"), headers={"Accept": "application/json"})
            response = connection.getresponse()
            text = response.read(MAX_BYTES + 1)
        finally:
            limit.cancel()
    if response.status == http.HTTPStatus.NOT_FOUND:
        raise FileNotFoundError
    if response.status != http.HTTPStatus.OK or len(text) > MAX_BYTES:
        raise ValueError(response.status)
    return text
