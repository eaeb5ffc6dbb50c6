"""The public keys that the Better Auth server publishes as a JWK Set (RFC 7517)."""

import contextlib
import http.client
import json
import logging
import mmap
import socket
import ssl
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import jwt

log = logging.getLogger(__name__)

FETCH_SECONDS = 3  # limit for a whole fetch, and for a request that waits for it
RETRY_INTERVAL = 15  # seconds from the start of a fetch to the start of the next
STALE_SECONDS = 300  # after this time the next use of a key starts a fetch
MAX_BYTES = 1_000_000
NEVER = float("-inf")
TYPES = {  # `kty` and `crv` of the keys for each `alg`
    "EdDSA": ("OKP", "Ed25519"),
    "ES256": ("EC", "P-256"),
    "ES512": ("EC", "P-521"),
    "PS256": ("RSA", None),
    "RS256": ("RSA", None),
}


class KeyStore:
    """Finds keys. A known key is used without waiting, also while the auth server is down, unlike with PyJWT's PyJWKClient.

    All processes that fork after `__init__` share the last fetched keys. The next successful fetch drops a withdrawn key.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: dict[tuple[str, str], jwt.PyJWK] = {}  # by `kid` and `alg`, as of the last `load()`
        self.fetched = NEVER  # monotonic time of the last successful fetch by any process, as of the last `load()`
        self.deadline = NEVER  # monotonic time at which this process gives up its own last fetch
        self.fetch_done = threading.Event()
        self.lock = threading.Lock()
        self.record = b""  # JSON of `fetched` and all published keys
        self.shared = mmap.mmap(-1, 2 * MAX_BYTES)  # the newest record, ended by NUL; all workers share this memory

    def find(self, kid: str, alg: str) -> jwt.PyJWK:
        """Return the key. If it is unknown, wait for one fetch.

        Raises:
            jwt.PyJWKClientConnectionError: the server has never answered.
            jwt.InvalidKeyError: the server does not publish the key.
        """
        self.load()
        if (kid, alg) not in self.keys:
            self._start_fetch()
            self.fetch_done.wait(max(0, self.deadline - time.monotonic()))
            self.load()
        elif time.monotonic() > self.fetched + STALE_SECONDS:
            self._start_fetch()
        if self.fetched == NEVER:
            raise jwt.PyJWKClientConnectionError("no keys yet")
        if (kid, alg) not in self.keys:
            raise jwt.InvalidKeyError("not published")
        return self.keys[kid, alg]

    def load(self) -> None:
        """Read the keys that any process has fetched since the last call."""
        record = self.shared[: self.shared.find(b"\0")]
        if record != self.record:
            with contextlib.suppress(ValueError, TypeError):  # another process is writing the record now
                fetched, jwks = json.loads(record)
                self.keys, self.fetched, self.record = usable(jwks), fetched, record

    def _share(self, jwks: list[Any]) -> None:
        record = json.dumps([time.monotonic(), jwks]).encode()
        self.shared[: len(record) + 1] = record + b"\0"

    def _start_fetch(self) -> None:
        with self.lock:
            if time.monotonic() > self.deadline - FETCH_SECONDS + RETRY_INTERVAL:
                self.deadline, self.fetch_done = time.monotonic() + FETCH_SECONDS, threading.Event()
                threading.Thread(target=self._fetch, args=[self.deadline, self.fetch_done], daemon=True).start()

    def _fetch(self, deadline: float, done: threading.Event) -> None:
        response = "none"
        try:
            status, content_type, text = download(self.url, deadline)
            response = f"status {status}, {content_type}, {len(text)} bytes"
            if status == 404 and self.fetched == NEVER:
                self._share([])  # the server has answered that it publishes no keys
            if status != 200 or len(text) > MAX_BYTES or not isinstance(jwks := json.loads(text)["keys"], list):
                raise ValueError
            self._share(jwks)
        except Exception as error:
            name = "TimeoutError" if time.monotonic() >= deadline else type(error).__name__
            log.warning("keys not fetched", extra={"url": self.url.partition("?")[0], "error": name, "response": response})
        done.set()


def usable(jwks: list[Any]) -> dict[tuple[str, str], jwt.PyJWK]:
    """Return the public signing keys, each only for algorithms of its own type."""
    keys = {}
    for jwk in jwks:
        for alg, kind in TYPES.items():
            with contextlib.suppress(Exception):  # a broken key must not affect the others
                signs = jwk.get("use", "sig") == "sig" and "verify" in jwk.get("key_ops", ["verify"]) and "d" not in jwk
                if signs and (jwk.get("kty"), jwk.get("crv")) == kind and jwk.get("alg", alg) == alg:
                    keys[jwk["kid"], alg] = jwt.PyJWK(jwk, alg)
    return keys


def download(url: str, deadline: float) -> tuple[int, str, bytes]:
    """GET the URL; return status, content type and body, cut off after MAX_BYTES + 1. `deadline` is in monotonic time."""
    target = urlsplit(url)
    port = target.port or {"http": 80, "https": 443}[target.scheme]
    connection = http.client.HTTPConnection(str(target.hostname), port, timeout=FETCH_SECONDS)
    with contextlib.ExitStack() as stack:
        stack.callback(connection.close)
        connection.connect()
        # A socket's timeout starts again with each byte, so a timer ends the connection. It gets a duplicate of the socket,
        # because ssl detaches the original.
        timer = threading.Timer(max(0, deadline - time.monotonic()), _shut_down, [stack.enter_context(connection.sock.dup())])
        stack.callback(timer.cancel)
        timer.start()
        if target.scheme == "https":
            connection.sock = ssl.create_default_context().wrap_socket(connection.sock, server_hostname=target.hostname)
        connection.request("GET", f"{target.path}?{target.query}".rstrip("?"), headers={"Host": target.netloc})
        response = stack.enter_context(connection.getresponse())
        return response.status, response.headers.get_content_type(), response.read(MAX_BYTES + 1)


def _shut_down(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
