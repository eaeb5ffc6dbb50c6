import base64
import json
import logging
import time
from typing import Any

import pytest

from tests.support.client import SECRET, Client, Response, token

MISSING = "Missing authorization token"
INVALID = "Invalid or malformed token"
EXPIRED = "Token has expired"
NO_USER = "Token missing user identifier"


def with_header(client: Client, value: str) -> Response:
    return client.call("GET", headers={"Authorization": value})


def with_claims(client: Client, claims: dict[str, Any]) -> Response:
    return with_header(client, f"Bearer {token(claims)}")


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YTpi", "Token abc", "bearer   "])
def test_a_missing_token_is_refused(alice: Client, header: str) -> None:
    answer = with_header(alice, header)
    assert (answer.status, answer.json) == (401, {"detail": MISSING})
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="todo_api"'


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
def test_the_case_of_the_scheme_does_not_matter(alice: Client, scheme: str) -> None:
    assert with_header(alice, f"{scheme} {token({'sub': alice.user_id})}").status == 200


def unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part(header)}.{part(claims)}."


GOOD = token({"sub": "alice"})
BAD_TOKENS = {
    "text": "abc",
    "two parts": GOOD.rpartition(".")[0],
    "five parts": f"{GOOD}.a.b",
    "twice, as a proxy joins two headers": f"{GOOD},Bearer {GOOD}",
    "no signature": GOOD.rpartition(".")[0] + ".",
    "another's signature": GOOD.rpartition(".")[0] + "." + token({"sub": "bob"}).rpartition(".")[2],
    "another secret": token({"sub": "alice"}, "another-secret-of-more-than-32-bytes"),
    "HS384": token({"sub": "alice"}, SECRET * 2, "HS384"),
    "HS512 with the secret": token({"sub": "alice"}, SECRET * 2, "HS512"),
    "none": unsigned({"alg": "none"}, {"sub": "alice"}),
    "None": unsigned({"alg": "None"}, {"sub": "alice"}),
    "no algorithm": unsigned({"typ": "JWT"}, {"sub": "alice"}),
    "not yet valid": token({"sub": "alice", "nbf": time.time() + 7200}),
    "issued in the future": token({"sub": "alice", "iat": time.time() + 7200}),
    "exp is text": token({"sub": "alice", "exp": "soon"}),
    "exp is infinite": token({"sub": "alice", "exp": float("inf")}),
    "sub is a number": token({"sub": 5}),
    "sub is a list": token({"sub": ["alice"]}),
    "user_id is a number": token({"user_id": 5}),
    "sub is true": token({"sub": True}),
    "sub is 0 beside a user_id": token({"sub": 0, "user_id": "alice"}),
    "sub is false beside a user_id": token({"sub": False, "user_id": "alice"}),
    "sub is an empty list beside a user_id": token({"sub": [], "user_id": "alice"}),
    "sub is too long": token({"sub": "x" * 256}),
    "sub holds NUL": token({"sub": "ali\0ce"}),
    "sub holds a lone surrogate": token({"sub": "ali\ud800ce"}),
    "claims are a list": "eyJhbGciOiJIUzI1NiJ9.W10.x",
    "long": "a" * 100_000,
    "deep header": base64.urlsafe_b64encode(b"[" * 5000).decode() + ".e30.x",
}


@pytest.mark.parametrize("bad", BAD_TOKENS.values(), ids=BAD_TOKENS.keys())
def test_a_bad_token_is_refused(alice: Client, bad: str) -> None:
    answer = with_header(alice, f"Bearer {bad}")
    assert (answer.status, answer.json) == (401, {"detail": INVALID})
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="todo_api", error="invalid_token"'


@pytest.mark.parametrize("ago", [0, 1, 4, 6, 3600])
def test_an_expired_token_is_refused_without_leeway(alice: Client, ago: int) -> None:
    answer = with_claims(alice, {"sub": alice.user_id, "exp": int(time.time()) - ago})
    assert (answer.status, answer.json) == (401, {"detail": EXPIRED})
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="todo_api", error="invalid_token"'


@pytest.mark.parametrize(
    "claims", [{}, {"email": "alice@example.com"}, {"sub": ""}, {"user_id": None}, {"session": {}, "user": {}}]
)
def test_a_token_must_name_a_user(alice: Client, claims: dict[str, Any]) -> None:
    answer = with_claims(alice, claims)
    assert (answer.status, answer.json) == (401, {"detail": NO_USER})


@pytest.mark.parametrize(
    "more",
    [
        {"exp": None},
        {"iat": None},
        {"nbf": time.time() + 3},
        {"iat": time.time() + 3},
        {"aud": "fastapi-backend", "iss": "nextjs-frontend"},
        {"aud": ["a", "b"]},
        {"jti": 5},
        {"user_id": "someone else"},
        {"email": "bob@example.com"},
    ],
)
def test_other_claims_are_ignored(alice: Client, more: dict[str, Any]) -> None:
    assert with_claims(alice, {"sub": alice.user_id, **more}).status == 200


def test_without_sub_the_user_id_claim_is_used(alice: Client) -> None:
    assert with_claims(alice, {"user_id": alice.user_id}).status == 200


@pytest.mark.parametrize(
    "user_id", ["1", "Xk3" * 10, "alice+todo@example.com", "Ünïcödé 名前", "a b", "a%2Fb", "x" * 255, "'", "%"]
)
def test_all_kinds_of_user_ids_are_accepted(alice: Client, user_id: str) -> None:
    odd = Client(alice.send, user_id)
    task = odd.create()
    assert task["user_id"] == user_id
    location = odd.call("POST", body={"title": "x"}).headers["Location"]
    assert alice.send("GET", location, odd.headers, None).status == 200
    assert task in odd.list()


def test_another_users_path_is_forbidden(alice: Client, bob: Client) -> None:
    answer = alice.call("GET", of=bob)
    assert (answer.status, answer.json) == (403, {"detail": "Access forbidden: user_id mismatch"})


def test_refusals_are_logged_without_the_token(alice: Client, bob: Client, caplog: pytest.LogCaptureFixture) -> None:
    with_header(alice, "Bearer forged\r\ntoken".replace("\r\n", ""))
    alice.call("GET", of=bob)
    unauthorized, forbidden = (vars(record) for record in caplog.records)
    assert (unauthorized["levelno"], unauthorized["detail"]) == (logging.WARNING, INVALID)
    assert unauthorized["reason"]
    assert (forbidden["levelno"], forbidden["token_user"], forbidden["path_user"]) == (
        logging.WARNING,
        alice.user_id,
        bob.user_id,
    )
    assert "forgedtoken" not in str(unauthorized)
