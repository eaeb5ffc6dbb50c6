"""Tokens that Better Auth signs with published keys, and how the service fetches these keys."""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flask import Flask

from tests.support.client import SECRET, Client, application, config, in_process, token
from tests.support.key_server import MAKERS, Key, KeyServer
from tests.support.server import ROOT, wait_until
from todo_api import jwks, tokens
from todo_api.tokens import Verifier

KEYS = {alg: Key(alg, f"kid-{alg}") for alg in MAKERS}
ALGORITHMS = list(MAKERS)
NO_DATABASE = "postgresql://127.0.0.1:1/none"


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with KeyServer(*KEYS.values()) as server:
        yield server


@pytest.fixture
def verifier(server: KeyServer) -> Verifier:
    return new_verifier(server)


def new_verifier(server: KeyServer, **env: str) -> Verifier:
    return Verifier(config(NO_DATABASE, BETTER_AUTH_URL=server.origin, **env))


def passes(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Advance the clocks of the key store and the verifier."""
    for module in (jwks, tokens):
        clock = module.time
        offset = seconds

        class Later:
            monotonic = staticmethod(lambda clock=clock, offset=offset: clock.monotonic() + offset)
            time = staticmethod(lambda clock=clock, offset=offset: clock.time() + offset)

        monkeypatch.setattr(module, "time", Later)


def refused(verifier: Verifier, text: str) -> bool:
    with pytest.raises(jwt.PyJWTError) as caught:
        verifier.user_id(text)
    return not isinstance(caught.value, jwt.PyJWKClientConnectionError)


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_a_token_of_each_algorithm_is_accepted(server: KeyServer, verifier: Verifier, alg: str) -> None:
    assert verifier.user_id(KEYS[alg].token(server, {"sub": "alice"})) == "alice"
    assert verifier.user_id(KEYS[alg].token(server, {"sub": "1", "name": "Bob", "email": "b@example.com"})) == "1"


@pytest.mark.parametrize("alg", ALGORITHMS)
@pytest.mark.parametrize(
    "claims",
    [
        {"exp": None},
        {"exp": 1},
        {"nbf": 4102444800},
        {"iat": 4102444800},
        {"iss": None},
        {"iss": "https://evil.example"},
        {"aud": None},
        {"aud": "https://evil.example"},
        {"aud": []},
    ],
    ids=str,
)
def test_times_issuer_and_audience_are_checked(server: KeyServer, verifier: Verifier, alg: str, claims: dict[str, Any]) -> None:
    assert refused(verifier, KEYS[alg].token(server, {"sub": "alice", **claims}))


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_another_key_is_refused(server: KeyServer, verifier: Verifier, alg: str) -> None:
    assert refused(verifier, Key(alg, f"kid-{alg}").token(server, {"sub": "alice"}))


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_a_key_of_another_type_is_refused(server: KeyServer, verifier: Verifier, alg: str) -> None:
    for other in ALGORITHMS:
        if other != alg:
            assert refused(verifier, KEYS[alg].token(server, {"sub": "alice"}, kid=f"kid-{other}"))


@pytest.mark.parametrize(("alg", "other"), [("ES256", "ES512"), ("ES512", "ES256"), ("EdDSA", "ES256"), ("RS256", "ES256")])
def test_a_key_without_alg_is_used_for_the_algorithm_of_its_type(
    server: KeyServer, verifier: Verifier, alg: str, other: str
) -> None:
    key = Key(alg, "nameless")
    del key.jwk["alg"]
    server.keys = [key]
    assert verifier.user_id(key.token(server, {"sub": "alice"})) == "alice"
    assert refused(verifier, KEYS[other].token(server, {"sub": "alice"}, kid="nameless"))


def test_an_rsa_key_without_alg_is_used_for_rs256_and_ps256(server: KeyServer, verifier: Verifier) -> None:
    key = Key("RS256", "rsa")
    del key.jwk["alg"]
    server.keys = [key]
    assert verifier.user_id(key.token(server, {"sub": "alice"})) == "alice"
    key.alg = "PS256"
    assert verifier.user_id(key.token(server, {"sub": "bob"})) == "bob"


def test_a_key_with_alg_is_used_only_for_that_algorithm(server: KeyServer, verifier: Verifier) -> None:
    key = Key("RS256", "rsa")
    server.keys = [key]
    key.alg = "PS256"
    assert refused(verifier, key.token(server, {"sub": "alice"}))


def test_broken_keys_do_not_affect_other_keys(server: KeyServer, verifier: Verifier) -> None:
    good = KEYS["EdDSA"].jwk
    broken: list[Any] = [
        {**good, "kid": None},
        {**good, "kid": []},
        {**good, "x": "short"},
        {**good, "use": "enc"},
        {},
        None,
        "key",
        5,
    ]
    without = {name: value for name, value in good.items() if name != "kid"}
    server.answer = server.say(200, json.dumps({"keys": [*broken, without, good]}).encode())
    assert verifier.user_id(KEYS["EdDSA"].token(server, {"sub": "alice"})) == "alice"


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_a_public_key_is_not_accepted_as_the_shared_secret(server: KeyServer, verifier: Verifier, alg: str) -> None:
    public = KEYS[alg].private.public_key()
    kinds = [(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)]
    for encoding, form in kinds:
        claims = {"sub": "alice", "exp": int(time.time()) + 60, "iss": server.origin, "aud": server.origin}
        forged = hmac_token(claims, public.public_bytes(encoding, form), f"kid-{alg}")
        assert refused(verifier, forged)


def hmac_token(claims: dict[str, Any], key: bytes, kid: str) -> str:
    """Sign with HS256 and any bytes as the secret; jwt.encode() refuses public keys."""
    algorithm = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    head, _, _ = jwt.encode(claims, SECRET, "HS256", {"kid": kid}).rpartition(".")
    return f"{head}.{jwt.utils.base64url_encode(algorithm.sign(head.encode(), key)).decode()}"


@pytest.mark.parametrize("header", ["jku", "jwk", "x5u"])
def test_a_token_may_not_name_its_own_key(server: KeyServer, verifier: Verifier, header: str) -> None:
    key = KEYS["EdDSA"]
    assert refused(verifier, key.token(server, {"sub": "alice"}, **{header: key.jwk if header == "jwk" else server.jwks_url}))
    assert refused(verifier, jwt.encode({"sub": "alice"}, SECRET, "HS256", {header: "x"}))


def signed(server: KeyServer, headers: dict[str, Any]) -> str:
    """Make a token with these headers and a valid signature."""
    key = KEYS["EdDSA"]
    header = {name: value for name, value in {"alg": "EdDSA", "kid": key.kid, **headers}.items() if value is not None}
    claims = {"sub": "alice", "exp": int(time.time()) + 60, "iss": server.origin, "aud": server.origin}
    parts = b".".join(jwt.utils.base64url_encode(json.dumps(part).encode()) for part in (header, claims))
    return b".".join([parts, jwt.utils.base64url_encode(key.private.sign(parts))]).decode()


@pytest.mark.parametrize(
    "headers",
    [
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"alg": "none"},
        {"alg": None},
        {"alg": ["EdDSA"]},
        {"alg": "HS256"},
        {"alg": "eddsa"},
        {"alg": "ES256"},
        {"kid": None},
        {"kid": 5},
        {"kid": ""},
    ],
    ids=str,
)
def test_unusual_headers_are_refused(server: KeyServer, verifier: Verifier, headers: dict[str, Any]) -> None:
    assert verifier.user_id(signed(server, {})) == "alice"
    assert refused(verifier, signed(server, headers))


@pytest.mark.parametrize("alg", ["EdDSA", "HS256"])
def test_no_mutation_of_a_token_is_accepted(server: KeyServer, verifier: Verifier, alg: str) -> None:
    good = token({"sub": "alice"}) if alg == "HS256" else KEYS[alg].token(server, {"sub": "alice"})
    chance = random.Random(20261123)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ "
    accepted = []
    for _ in range(10_000):
        letters = list(good)
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(letters))
            match chance.randrange(4):
                case 0:
                    letters[place] = chance.choice(alphabet)
                case 1:
                    letters.insert(place, chance.choice(alphabet))
                case 2 if len(letters) > 1:
                    del letters[place]
                case _:
                    other = chance.randrange(len(letters))
                    letters[place], letters[other] = letters[other], letters[place]
        if canonical(mutant := "".join(letters)) != canonical(good):
            with contextlib.suppress(jwt.PyJWTError, ValueError):
                accepted.append(verifier.user_id(mutant) and mutant)
    assert accepted == []


def canonical(text: str) -> object:
    """Return the decoded parts, because different base64 texts can stand for the same signature."""
    try:
        return [jwt.utils.base64url_decode(part.rstrip("=").encode()) for part in text.split(".")]
    except ValueError:
        return text


def test_a_new_key_is_accepted(server: KeyServer, verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verifier.user_id(KEYS["EdDSA"].token(server, {"sub": "alice"})) == "alice"
    new = Key("EdDSA", "new")
    server.keys.append(new)
    passes(jwks.RETRY_INTERVAL + 1, monkeypatch)
    assert verifier.user_id(new.token(server, {"sub": "alice"})) == "alice"
    assert server.fetches == 2


def test_a_withdrawn_key_is_dropped(server: KeyServer, verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    old = KEYS["EdDSA"].token(server, {"sub": "alice"})
    assert verifier.user_id(old) == "alice"
    server.keys.remove(KEYS["EdDSA"])
    passes(jwks.STALE_SECONDS + 1, monkeypatch)
    assert verifier.user_id(old) == "alice"  # this use starts the fetch
    wait_for_fetches(server, verifier, 2)
    passes(tokens.CACHE_SECONDS + 1, monkeypatch)
    assert refused(verifier, old)


def wait_for_fetches(server: KeyServer, verifier: Verifier, count: int) -> None:
    """Wait until that many fetches, counted from the start of the server, have ended."""
    wait_until(lambda: server.fetches == count and not verifier.key_store.fetch_lock.locked(), "the fetches have ended")


def test_many_unknown_keys_cause_one_fetch(server: KeyServer, verifier: Verifier) -> None:
    assert verifier.user_id(KEYS["EdDSA"].token(server, {"sub": "alice"})) == "alice"
    unknown = [Key("EdDSA", f"unknown-{n}").token(server, {"sub": "alice"}) for n in range(500)]
    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(lambda text: refused(verifier, text), unknown))
    assert server.fetches <= 2


def test_the_first_tokens_share_one_fetch(server: KeyServer, verifier: Verifier) -> None:
    first = [KEYS["EdDSA"].token(server, {"sub": f"user-{n}"}) for n in range(50)]
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(verifier.user_id, first)) == [f"user-{n}" for n in range(50)]
    assert server.fetches == 1


BROKEN: dict[str, Callable[[KeyServer], Callable[[BaseHTTPRequestHandler], None]]] = {
    "429": lambda server: server.say(429, b"slow down"),
    "500": lambda server: server.say(500, b'{"keys": []}'),
    "HTML": lambda server: server.say(200, b"<html>"),
    "a list": lambda server: server.say(200, b"[]"),
    "a redirect": lambda server: server.say(302, b"", Location=f"{server.origin}/elsewhere"),
    "50 MB": lambda server: server.say(200, b" " * 50_000_000),
    "deep": lambda server: server.say(200, b"[" * 100_000),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_known_keys_stay_in_use_during_an_outage(
    server: KeyServer, verifier: Verifier, monkeypatch: pytest.MonkeyPatch, broken: Callable[[KeyServer], Any]
) -> None:
    assert verifier.user_id(KEYS["EdDSA"].token(server, {"sub": "alice"})) == "alice"
    server.answer = broken(server)
    passes(jwks.STALE_SECONDS + 1, monkeypatch)
    for n in range(20):
        assert verifier.user_id(KEYS["EdDSA"].token(server, {"sub": f"user-{n}"})) == f"user-{n}"
    wait_for_fetches(server, verifier, 2)
    assert refused(verifier, Key("EdDSA", "unknown").token(server, {"sub": "alice"}))
    assert server.fetches == 2


@pytest.mark.parametrize(
    ("status", "content_type", "body", "expected"),
    [
        (302, "text/plain", b"", "status 302, text/plain, 0 bytes"),
        (401, "application/json", b'{"keys": []}', "status 401, application/json, 12 bytes"),
        (404, "application/json", b"{}", "status 404, application/json, 2 bytes"),
        (500, "application/json", b"{}", "status 500, application/json, 2 bytes"),
        (200, "text/html", b"<html>", "status 200, text/html, 6 bytes"),
        (200, "application/json", b"[]", "status 200, application/json, 2 bytes"),
        (200, "application/json", b'{"keys": {}}', "status 200, application/json, 12 bytes"),
        (200, "application/json", b" " * 50_000_000, "status 200, application/json, 1000001 bytes"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_response_that_is_not_a_key_set_is_logged(
    server: KeyServer, caplog: pytest.LogCaptureFixture, status: int, content_type: str, body: bytes, expected: str
) -> None:
    server.answer = server.say(status, body, **{"Content-Type": content_type})
    store = jwks.KeyStore(f"{server.jwks_url}?key=hunter2")
    with contextlib.suppress(jwt.PyJWTError):
        store.find("kid", "EdDSA")
    assert [(vars(record)["message"], vars(record)["response"]) for record in caplog.records] == [("keys not fetched", expected)]
    assert [vars(record)["url"] for record in caplog.records] == [server.jwks_url]


def test_a_failed_connection_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with KeyServer() as gone:
        pass
    store = jwks.KeyStore(gone.jwks_url)
    with pytest.raises(jwt.PyJWKClientConnectionError):
        store.find("kid", "EdDSA")
    assert [(vars(each)["error"], vars(each)["response"]) for each in caplog.records] == [("ConnectionRefusedError", "none")]


def private(key: Key) -> dict[str, Any]:
    return {
        **key.jwk,
        **jwt.algorithms.get_default_algorithms()[key.alg].to_jwk(key.private, as_dict=True),
        "key_ops": ["verify"],
    }


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_a_private_key_is_not_used(server: KeyServer, verifier: Verifier, alg: str) -> None:
    key = Key(alg, "private")
    server.answer = server.say(200, json.dumps({"keys": [private(key), KEYS[alg].jwk]}).encode())
    assert refused(verifier, key.token(server, {"sub": "alice"}))
    assert verifier.user_id(KEYS[alg].token(server, {"sub": "alice"})) == "alice"


def test_a_short_rsa_key_is_not_used(server: KeyServer, verifier: Verifier) -> None:
    key = Key("RS256", "short")
    key.private = rsa.generate_private_key(65537, 1024)  # noqa: S505
    public = jwt.algorithms.RSAAlgorithm.to_jwk(key.private.public_key(), as_dict=True)
    key.jwk |= {"n": public["n"]}
    server.keys = [key]
    with warnings.catch_warnings(action="ignore"):
        text = key.token(server, {"sub": "alice"})
    assert refused(verifier, text)


def in_a_child(test: Callable[[], object]) -> bool:
    """Run the test in a forked process, like a worker. Return whether its result is true."""
    with warnings.catch_warnings(action="ignore"):  # Python warns about the threads of this process
        pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if test() else 1)
        finally:
            os._exit(2)
    return os.waitpid(pid, 0)[1] == 0


def test_processes_share_the_fetched_keys(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    store = jwks.KeyStore(server.jwks_url)
    assert in_a_child(lambda: store.find("kid-EdDSA", "EdDSA"))
    assert server.fetches == 1
    server.answer = server.say(503, b"")
    assert in_a_child(lambda: store.find("kid-ES256", "ES256"))
    assert store.find("kid-EdDSA", "EdDSA")
    assert server.fetches == 1
    assert (len(store.keys), store.fetched > 0) == (len(KEYS), True)


def test_a_withdrawn_key_is_dropped_in_all_processes(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    store = jwks.KeyStore(server.jwks_url)
    assert store.find("kid-EdDSA", "EdDSA")
    server.keys.remove(KEYS["EdDSA"])

    def fetch_again() -> bool:
        passes(jwks.RETRY_INTERVAL + 1, monkeypatch)
        with pytest.raises(jwt.InvalidKeyError):
            store.find("unknown", "EdDSA")
        return True

    assert in_a_child(fetch_again)
    with pytest.raises(jwt.InvalidKeyError):
        store.find("kid-EdDSA", "EdDSA")
    assert server.fetches == 2


def test_a_record_that_another_process_is_writing_is_not_used(server: KeyServer) -> None:
    store = jwks.KeyStore(server.jwks_url)
    key = store.find("kid-EdDSA", "EdDSA")
    whole = store.shared.memory[:]
    for end in range(len(store.shared.last_read)):
        store.shared.memory[: end + 1] = whole[:end] + b"\0"
        assert store.find("kid-EdDSA", "EdDSA") is key
    assert server.fetches == 1


def test_a_known_key_never_waits_for_a_hanging_server(
    server: KeyServer, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert verifier.user_id(KEYS["EdDSA"].token(server, {"sub": "alice"})) == "alice"
    asked, released = threading.Event(), threading.Event()

    def hang(_: BaseHTTPRequestHandler) -> None:
        asked.set()
        released.wait(60)

    server.answer = hang
    passes(jwks.STALE_SECONDS + 1, monkeypatch)
    for n in range(20):
        assert verifier.user_id(KEYS["EdDSA"].token(server, {"sub": f"user-{n}"})) == f"user-{n}"
    assert asked.wait(10)
    assert verifier.key_store.fetch_lock.locked(), "the fetch ended, but it should still hang"
    released.set()
    wait_for_fetches(server, verifier, 2)


@pytest.fixture
def dribbling() -> Iterator[Callable[[str], str]]:
    """Yield a function that starts a server and returns its address. The server sends a text, then one byte every 50 ms."""
    ended = threading.Event()
    listeners: list[socket.socket] = []

    def send(client: socket.socket, start: bytes) -> None:
        with client, contextlib.suppress(OSError):
            client.sendall(start)
            while not ended.wait(0.05):
                client.sendall(b"a")

    def serve(listener: socket.socket, start: bytes) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=send, args=[listener.accept()[0], start], daemon=True).start()

    def start(text: str) -> str:
        listeners.append(listener := socket.create_server(("127.0.0.1", 0)))
        threading.Thread(target=serve, args=[listener, text.encode("latin1")], daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    ended.set()
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


DRIBBLES = {  # what the server sends at once before it sends single bytes
    "handshake": ("https", "\x16\x03\x03\x40\x00\x02\x00\x3f\xfc"),  # the start of a ServerHello of 16 KB
    "headers": ("http", "HTTP/1.1 200 OK\r\nX-Header: "),
    "body": ("http", "HTTP/1.1 200 OK\r\n\r\n{"),
    "chunked body": ("http", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n80000\r\n"),
}


UNDER_GEVENT = """
from gevent import monkey; monkey.patch_all()
import gevent, logging, sys, types, jwt
from todo_api import jwks

logging.basicConfig(format="%(message)s: %(error)s", stream=sys.stdout)
store = jwks.KeyStore(sys.argv[1])

def find():
    try:
        print(store.find("kid-EdDSA", "EdDSA").key_id)
    except jwt.PyJWKClientConnectionError:
        assert not store.fetch_lock.locked()
        print("unavailable")
"""

FIND_TWICE = """
jwks.FETCH_SECONDS = 0.3
find()
find()
"""

FIND_WHILE_NAME_LOOKUPS_HANG = """
hub, sleep = gevent.get_hub(), monkey.get_original("time", "sleep")
resolver = hub.resolver
hub.resolver = types.SimpleNamespace(getaddrinfo=lambda *_: hub.threadpool.apply(sleep, [60]))
jwks.FETCH_SECONDS = 0.1
find()
hub.resolver = resolver
jwks.FETCH_SECONDS = 3
store.next_fetch = 0
find()
"""


def under_gevent(code: str, url: str) -> list[str]:
    """The lines that this code prints. Production runs under gevent, whose time limit the native threads of the tests ignore."""
    command = [sys.executable, "-c", UNDER_GEVENT + code, url]
    return subprocess.check_output(command, text=True, timeout=60, cwd=ROOT).splitlines()


@pytest.mark.parametrize(("scheme", "text"), DRIBBLES.values(), ids=DRIBBLES.keys())
def test_one_time_limit_covers_the_whole_fetch(dribbling: Callable[[str], str], scheme: str, text: str) -> None:
    lines = under_gevent(FIND_TWICE, f"{scheme}://{dribbling(text)}/keys")
    assert lines == ["keys not fetched: Timeout", "unavailable", "unavailable"]


def test_a_request_does_not_wait_for_a_hanging_name_lookup(server: KeyServer) -> None:
    lines = under_gevent(FIND_WHILE_NAME_LOOKUPS_HANG, server.jwks_url)
    assert lines == ["keys not fetched: Timeout", "unavailable", "kid-EdDSA"]


def test_keys_are_fetched_over_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with KeyServer(*KEYS.values(), tls=True) as server:
        distrusting = jwks.KeyStore(server.jwks_url)
        with pytest.raises(jwt.PyJWKClientConnectionError):
            distrusting.find("kid-EdDSA", "EdDSA")
        assert [vars(record)["error"] for record in caplog.records] == ["SSLCertVerificationError"]
        certificate = tmp_path / "certificate.pem"
        certificate.write_bytes(server.certificate)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert jwks.KeyStore(server.jwks_url.replace("https", "HTTPS")).find("kid-EdDSA", "EdDSA")
        elsewhere = jwks.KeyStore(server.jwks_url.replace("127.0.0.1", "localhost"))
        with pytest.raises(jwt.PyJWKClientConnectionError):  # the certificate is only valid for 127.0.0.1
            elsewhere.find("kid-EdDSA", "EdDSA")
        assert server.fetches == 1


def test_without_keys_only_tokens_that_need_them_get_a_503(alice: Client, app: Flask) -> None:
    with KeyServer() as gone:
        pass
    with application(app.extensions["pool"].conninfo, BETTER_AUTH_URL=gone.origin) as lonely:
        client = Client(in_process(lonely), alice.user_id)
        for _ in range(3):
            answer = client.call("GET", headers={"Authorization": f"Bearer {KEYS['EdDSA'].token(gone, {'sub': alice.user_id})}"})
            assert (answer.status, answer.json) == (503, {"detail": "Service temporarily unavailable"})
            assert int(answer.headers["Retry-After"]) >= 1
            assert client.call("GET").status == 200


def test_a_token_is_refused_if_the_server_publishes_no_keys(server: KeyServer, verifier: Verifier) -> None:
    server.answer = server.say(404, b"no such page")
    assert refused(verifier, KEYS["EdDSA"].token(server, {"sub": "alice"}))


def test_known_keys_stay_in_use_after_a_404(server: KeyServer, verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verifier.user_id(KEYS["EdDSA"].token(server, {"sub": "alice"})) == "alice"
    server.answer = server.say(404, b"no such page")
    passes(jwks.STALE_SECONDS + 1, monkeypatch)
    for user in ("bob", "carol"):
        assert verifier.user_id(KEYS["EdDSA"].token(server, {"sub": user})) == user
        wait_for_fetches(server, verifier, 2)


def test_a_token_with_a_published_key_gives_access_to_its_own_user_only(
    server: KeyServer, alice: Client, bob: Client, app: Flask
) -> None:
    with application(app.extensions["pool"].conninfo, BETTER_AUTH_URL=f"{server.origin}/,https://preview.example") as federated:
        client = Client(in_process(federated), alice.user_id)
        client.headers["Authorization"] = f"Bearer {KEYS['EdDSA'].token(server, {'sub': alice.user_id})}"
        task = client.create()
        assert client.list() == [task]
        assert client.call("GET", of=bob).status == 403
        forged = Key("EdDSA", "kid-EdDSA").token(server, {"sub": alice.user_id})
        answer = client.call("GET", headers={"Authorization": f"Bearer {forged}"})
        assert (answer.status, answer.json) == (401, {"detail": "Invalid or malformed token"})
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="todo_api", error="invalid_token"'


@pytest.mark.parametrize(
    ("claims", "status", "detail"),
    [
        ({}, 200, None),
        ({"exp": 1}, 401, "Token has expired"),
        ({"exp": None}, 200, None),
        ({"nbf": 4102444800}, 401, "Invalid or malformed token"),
        ({"sub": None}, 401, "Token missing user identifier"),
    ],
    ids=str,
)
def test_the_previous_secret_is_accepted_too(
    alice: Client, app: Flask, claims: dict[str, Any], status: int, detail: str | None
) -> None:
    new, leaked = "new" * 11, "leaked" * 6
    with application(app.extensions["pool"].conninfo, BETTER_AUTH_SECRET=new, BETTER_AUTH_SECRET_PREVIOUS=SECRET) as replacing:
        client = Client(in_process(replacing), alice.user_id)
        for secret in (new, SECRET):
            answer = client.call("GET", headers={"Authorization": f"Bearer {token({'sub': alice.user_id, **claims}, secret)}"})
            assert (answer.status, answer.json) == (status, {"detail": detail} if detail else [])
        answer = client.call("GET", headers={"Authorization": f"Bearer {token({'sub': alice.user_id, **claims}, leaked)}"})
        assert (answer.status, answer.json) == (401, {"detail": "Invalid or malformed token"})


def test_the_secret_keeps_its_trailing_newline(server: KeyServer) -> None:
    verifier = new_verifier(server, BETTER_AUTH_SECRET=f"{SECRET}\n")
    assert verifier.user_id(token({"sub": "alice"}, f"{SECRET}\n")) == "alice"
    assert refused(verifier, token({"sub": "alice"}, SECRET))


def test_issuer_audience_and_jwks_url_can_be_set(server: KeyServer) -> None:
    verifier = Verifier(
        config(
            NO_DATABASE,
            BETTER_AUTH_URL="https://app.example",
            BETTER_AUTH_JWKS_URL=server.jwks_url,
            BETTER_AUTH_ISSUER="https://issuer.example",
            BETTER_AUTH_AUDIENCE="todo",
        )
    )
    claims = {"sub": "alice", "iss": "https://issuer.example", "aud": ["todo", "other"]}
    assert verifier.user_id(KEYS["EdDSA"].token(server, claims)) == "alice"
    assert refused(verifier, KEYS["EdDSA"].token(server, {"sub": "alice"}))


def test_a_cached_token_still_expires_to_the_second(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for make in (token, lambda claims: KEYS["EdDSA"].token(server, claims)):
        verifier = new_verifier(server)
        text = make({"sub": "alice", "exp": int(time.time()) + 30})
        with monkeypatch.context() as patch:
            assert verifier.user_id(text) == "alice"
            passes(25, patch)
            assert verifier.user_id(text) == "alice"
            passes(6, patch)
            with pytest.raises(jwt.ExpiredSignatureError):
                verifier.user_id(text)


def test_the_cache_is_bounded_and_contains_no_token(
    server: KeyServer, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "CACHE_SIZE", 100)
    texts = [token({"sub": f"user-{n}"}) for n in range(300)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(verifier.user_id, texts)) == [f"user-{n}" for n in range(300)]
    assert 0 < len(verifier.cache) <= 100 + 8  # each thread may add one entry after its check
    assert not any(text.encode() in verifier.cache for text in texts)
