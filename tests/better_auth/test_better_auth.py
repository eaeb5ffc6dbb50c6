"""The service with tokens of a real Better Auth server (the npm package in Node.js)."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jwt
import pytest

from tests.support.client import SECRET, Client, Response, over_http
from tests.support.server import Server, Service

pytestmark = pytest.mark.long

HERE = Path(__file__).resolve().parent
ALGORITHMS = ["EdDSA", "ES256", "ES512", "RS256", "PS256"]
PLUGIN, HAND_SIGNED = "/api/auth/token", "/api/token"
ON_A_TASK = [("GET", "{}"), ("PUT", "{}"), ("PATCH", "{}/complete"), ("DELETE", "{}")]


@dataclass(frozen=True)
class User:
    user_id: str
    cookies: dict[str, str]


class BetterAuth(Server):
    """Runs server.mjs inside a `with` block."""

    def __init__(self, node: str, **env: str) -> None:
        super().__init__()
        self.origin = f"http://127.0.0.1:{self.port}"
        self.command = [node, str(HERE / "server.mjs")]
        self.env |= {"PORT": str(self.port), "BETTER_AUTH_SECRET": SECRET, "NODE_ENV": "test", **env}
        self.send = over_http(self.port)

    def responds(self) -> bool:
        """Return whether GET /api/auth/ok returns 200."""
        return self.send("GET", "/api/auth/ok", {}, None).status == 200

    def sign_up(self) -> User:
        account = {"name": "A user", "email": f"{uuid.uuid4()}@example.com", "password": str(uuid.uuid4())}
        headers = {"Content-Type": "application/json", "Origin": self.origin}
        answer = self.send("POST", "/api/auth/sign-up/email", headers, json.dumps(account).encode())
        assert answer.status == 200, answer
        pairs = [cookie.partition(";")[0].partition("=") for cookie in answer.headers.getlist("Set-Cookie")]
        return User(answer.json["user"]["id"], {name: value for name, _, value in pairs})

    def token(self, user: User, path: str) -> str:
        cookies = "; ".join(f"{name}={value}" for name, value in user.cookies.items())
        answer = self.send("GET", path, {"Cookie": cookies}, None)
        assert answer.status == 200, answer
        token: str = answer.json["token"]
        return token

    def service(self, database_url: str) -> Service:
        """Return a service with one worker, so that there is only one set of known keys."""
        return Service(database_url, BETTER_AUTH_URL=self.origin, WEB_CONCURRENCY="1")

    def client(self, service: Service, user: User, path: str = PLUGIN) -> Client:
        """Return a client for the user with a new token from the path."""
        client = Client(service.send, user.user_id)
        client.headers = {"Authorization": f"Bearer {self.token(user, path)}", "Origin": self.origin}
        return client


@pytest.fixture(scope="session")
def node() -> str:
    """Return the path of Node.js. If it or the package is missing, skip, or fail if REQUIRE_BETTER_AUTH is set."""
    node = shutil.which("node")
    if node and (HERE / "node_modules" / "better-auth").is_dir():
        return node
    reason = "`npm ci --prefix tests/better_auth` has not been run" if node else "Node.js is not installed"
    return pytest.fail(reason) if os.environ.get("REQUIRE_BETTER_AUTH") else pytest.skip(reason)


@pytest.fixture(scope="module", params=ALGORITHMS)
def auth(node: str, request: pytest.FixtureRequest) -> Iterator[BetterAuth]:
    with BetterAuth(node, ALG=request.param) as auth:
        yield auth


@pytest.fixture(scope="module")
def service(auth: BetterAuth, database_url: str) -> Iterator[Service]:
    with auth.service(database_url) as service:
        yield service


@pytest.fixture
def alice(auth: BetterAuth, service: Service) -> Client:
    return auth.client(service, auth.sign_up())


@pytest.fixture
def bob(auth: BetterAuth, service: Service) -> Client:
    return auth.client(service, auth.sign_up())


def manage_a_task(user: Client) -> None:
    """Call each operation on a task as its owner."""
    task = user.create("Buy milk")
    assert (task["user_id"], user.list()) == (user.user_id, [task])
    assert user.call("GET", task["id"]).json == task
    assert user.call("PATCH", f"{task['id']}/complete").json["completed"] is True
    assert user.call("PUT", task["id"], {"title": "Buy bread"}).json["title"] == "Buy bread"
    assert user.call("DELETE", task["id"]).status == 204
    assert user.list() == []


def show(client: Client, token: str) -> Response:
    """Request the client's list with another token. Return the response."""
    return client.call("GET", headers={"Authorization": f"Bearer {token}"})


def token(client: Client) -> str:
    return client.headers["Authorization"].removeprefix("Bearer ")


def test_users_manage_their_own_tasks(auth: BetterAuth, alice: Client, bob: Client) -> None:
    assert jwt.get_unverified_header(token(alice))["alg"] == auth.env["ALG"]
    manage_a_task(alice)
    manage_a_task(bob)


def test_users_cannot_access_each_others_tasks(alice: Client, bob: Client) -> None:
    task = alice.create()
    assert bob.list() == []
    for method, path in [*ON_A_TASK, ("GET", ""), ("POST", "")]:
        assert bob.call(method, path.format(task["id"]), {"title": "Mine"}, of=alice).status == 403
    for method, path in ON_A_TASK:
        assert bob.call(method, path.format(task["id"]), {"title": "Mine"}).status == 404
    assert alice.list() == [task]


def test_a_tampered_token_is_refused(alice: Client, bob: Client) -> None:
    header, claims, signature = token(alice).split(".")
    flipped = ("B" if signature[0] == "A" else "A") + signature[1:]
    for client, forged in [
        (alice, f"{header}.{claims}.{flipped}"),
        (alice, f"{header}.{claims}."),
        (bob, f"{header}.{token(bob).split('.')[1]}.{signature}"),
    ]:
        answer = show(client, forged)
        assert (answer.status, answer.json) == (401, {"detail": "Invalid or malformed token"})
    assert alice.list() == bob.list() == []


def test_session_cookies_are_not_accepted_as_tokens(auth: BetterAuth, service: Service) -> None:
    user = auth.sign_up()
    alice = auth.client(service, user)
    session = user.cookies["better-auth.session_data"]
    ours, theirs = (jwt.decode(each, options={"verify_signature": False}) for each in (token(alice), session))
    assert (theirs["sub"], theirs["iss"]) == (ours["sub"], ours["iss"])  # only the audience differs
    assert jwt.get_unverified_header(session)["kid"] == jwt.get_unverified_header(token(alice))["kid"]
    for value in (session, user.cookies["better-auth.session_token"], str(uuid.uuid4())):
        assert show(alice, value).status == 401


def test_a_session_cookie_signed_with_the_secret_is_not_accepted_as_a_token(node: str, database_url: str) -> None:
    with BetterAuth(node, COOKIE_KEY="secret") as auth, auth.service(database_url) as service:
        user = auth.sign_up()
        session = user.cookies["better-auth.session_data"]
        assert jwt.decode(session, SECRET, ["HS256"])["user"]["id"] == user.user_id
        answer = show(auth.client(service, user), session)
        assert (answer.status, answer.json) == (401, {"detail": "Token missing user identifier"})


@pytest.mark.parametrize("auth", ["EdDSA"], indirect=True)
def test_tokens_that_the_frontend_signs_itself_work_beside_the_plugins(auth: BetterAuth, service: Service) -> None:
    user = auth.sign_up()
    own, plugins = auth.client(service, user, HAND_SIGNED), auth.client(service, user)
    assert jwt.get_unverified_header(token(own))["alg"] == "HS256"
    manage_a_task(own)
    assert [own.create()] == plugins.list()


def test_a_known_key_outlives_the_auth_server(node: str, database_url: str) -> None:
    with BetterAuth(node) as auth, auth.service(database_url) as service:
        alice, bob = (auth.client(service, auth.sign_up()) for _ in range(2))
        manage_a_task(alice)
        auth.stop()
        manage_a_task(alice)
        manage_a_task(bob)  # the service has not seen this token before
