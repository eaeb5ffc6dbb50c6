"""Random malformed requests never cause a 5xx, and the service keeps running. `make fuzz` tries more of them."""

import os
import re
import socket
import uuid

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.client import token
from tests.support.server import Service

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES") or 200)
USER = f"fuzz-{uuid.uuid4()}"
TOKEN = token({"sub": USER, "exp": 4102444800})

BYTES = st.binary(max_size=40)
METHODS = b"GET POST PUT PATCH DELETE OPTIONS HEAD get FOO".split()
PATHS = ["", "/", "/1", "/1/complete", "/%00", "/%ff%fe", "/..", "//", "/1/complete/", "/9" * 400]
QUERIES = [b"", b"?limit=1&after=%00", b"?search=%ff&sort=x", b"?" + b"a=1&" * 500]
NAMES = b"""Content-Type Content-Length Transfer-Encoding Idempotency-Key If-Match If-None-Match Origin X-Request-Id Expect
Connection Host Range Accept Cookie X-Forwarded-For Authorization""".split()
VALUES = b'chunked 0 5 -1 9999999999999999999999 application/json text/plain 100-continue "1" * close'.split()
BODIES = [b"", b"{}", b'{"title":"x"}', b'{"title":null}', b"[" * 3000, b'{"a":' * 900, b"\xff\xfe", b"5\r\nabcde\r\n0\r\n\r\n"]


def some(known: list[bytes]) -> st.SearchStrategy[bytes]:
    return st.sampled_from(known) | BYTES


def exchange(port: int, request: bytes) -> bytes:
    """Send the bytes. Return all that the server sends back, or b"" if it resets the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))
        except (ConnectionResetError, BrokenPipeError):
            return b""


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    method=some(METHODS),
    path=some([f"/api/{USER}/tasks{path}".encode() for path in PATHS]),
    query=some(QUERIES),
    headers=st.lists(st.tuples(some(NAMES), some(VALUES)), max_size=6),
    body=some(BODIES),
    authorized=st.booleans(),
)
def test_no_bytes_cause_a_5xx(
    service: Service, method: bytes, path: bytes, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes, authorized: bool
) -> None:
    lines = [b"%b %b%b HTTP/1.1" % (method, path, query), b"Host: x", *(b"%b: %b" % header for header in headers)]
    if authorized:
        lines.append(f"Authorization: Bearer {TOKEN}".encode())
    if not any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in headers):
        lines.append(b"Content-Length: %d" % len(body))
    answer = exchange(service.port, b"\r\n".join([*lines, b"", body]))
    assert not re.match(rb"HTTP/1\.\d 5(?!01|05)", answer), answer
    assert service.send("GET", "/health", {}, None).status == 200


def test_a_flood_of_headers_is_refused(service: Service) -> None:
    flood = b"".join(b"X-%d: y\r\n" % n for n in range(5000))
    assert re.match(rb"HTTP/1.1 4\d\d", exchange(service.port, b"GET /health HTTP/1.1\r\nHost: x\r\n" + flood + b"\r\n"))
    long = b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"
    assert re.match(rb"HTTP/1.1 4\d\d|$", exchange(service.port, long))
    assert service.send("GET", "/health", {}, None).status == 200
