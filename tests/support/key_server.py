"""An auth server for tests. It publishes keys on 127.0.0.1, signs tokens, and can send any other response."""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from jwt.algorithms import get_default_algorithms

MAKERS: dict[str, Callable[[], Any]] = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "PS256": lambda: rsa.generate_private_key(65537, 2048),
}


class Key:
    """A key pair. `jwk` is the public key as Better Auth publishes it."""

    def __init__(self, alg: str, kid: str) -> None:
        self.alg, self.kid = alg, kid
        self.private = MAKERS[alg]()
        public = get_default_algorithms()[alg].to_jwk(self.private.public_key(), as_dict=True)
        self.jwk = {name: value for name, value in public.items() if name != "key_ops"} | {"alg": alg, "kid": kid}

    def token(self, server: KeyServer, claims: Mapping[str, Any], **headers: Any) -> str:
        """Make a token as Better Auth does. Claims and headers that are None are left out."""
        now = int(time.time())
        full = {"iat": now, "exp": now + 900, "iss": server.origin, "aud": server.origin, **claims}
        kept = {name: value for name, value in full.items() if value is not None}
        return jwt.encode(kept, self.private, self.alg, {"kid": self.kid, **headers})


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Print no traceback when a client disconnects early."""


class KeyServer:
    """The server. It runs inside a `with` block. `fetches` counts the requests. A test may replace `answer` at any time.

    With `tls` it has a self-signed `certificate` (PEM) for 127.0.0.1.
    """

    def __init__(self, *keys: Key, tls: bool = False) -> None:
        self.keys = list(keys)
        self.fetches = 0
        self.answer: Callable[[BaseHTTPRequestHandler], None] = self.publish
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.fetches += 1
                server.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = QuietServer(("127.0.0.1", 0), Handler)
        if tls:
            self.certificate, context = _self_signed()
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True, do_handshake_on_connect=False)
        self.origin = f"{'https' if tls else 'http'}://127.0.0.1:{self.http.server_port}"
        self.jwks_url = f"{self.origin}/api/auth/jwks"

    def publish(self, request: BaseHTTPRequestHandler) -> None:
        self.say(200, json.dumps({"keys": [key.jwk for key in self.keys]}).encode())(request)

    @staticmethod
    def say(status: int, body: bytes, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
        """Return a handler that always sends this response."""

        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(status)
            for name, value in headers.items():
                request.send_header(name, value)
            request.end_headers()
            request.wfile.write(body)

        return answer

    def __enter__(self) -> Self:
        threading.Thread(target=self.http.serve_forever, args=[0.01], daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()


def _self_signed() -> tuple[bytes, ssl.SSLContext]:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    key = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(key + certificate)
        file.flush()
        context.load_cert_chain(file.name)
    return certificate, context
