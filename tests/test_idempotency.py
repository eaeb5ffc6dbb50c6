"""Retries of POST with an Idempotency-Key."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.support.client import Client, Response
from tests.support.statements import execute
from todo_api.statements import SQL


def post(client: Client, key: str, title: str = "Buy milk") -> Response:
    return client.call("POST", body={"title": title}, headers={"Idempotency-Key": key})


@pytest.mark.parametrize("key", ["k", '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "x" * 255, "with spaces, and; signs"])
def test_a_retry_gets_the_first_task(alice: Client, key: str) -> None:
    first, second = post(alice, key), post(alice, key)
    assert (first.status, second.status) == (201, 201)
    assert first.json == second.json
    assert first.headers["Location"] == second.headers["Location"]
    assert first.headers["ETag"] == second.headers["ETag"]
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert alice.list() == [first.json]


def test_fifty_racing_retries_make_one_task(alice: Client) -> None:
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: post(alice, "race"), range(50)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.body for answer in answers}) == 1
    assert len(alice.list()) == 1


def test_a_key_with_another_body_is_refused(alice: Client) -> None:
    first = post(alice, "k", "one")
    answer = post(alice, "k", "two")
    assert answer.status == 422
    assert answer.json["detail"][0]["loc"] == ["header", "Idempotency-Key"]
    assert "Idempotency-Key" in answer.json["error"]
    assert alice.list() == [first.json]


def test_equal_bodies_may_be_formatted_differently(alice: Client) -> None:
    headers = {"Idempotency-Key": "k"}
    bodies = [b'{"title": "x", "completed": true}', b'{"completed":true,"title":"\\u0078","unknown":1}']
    assert len({alice.call("POST", body=body, headers=headers).json["id"] for body in bodies}) == 1


def test_keys_belong_to_their_user(alice: Client, bob: Client) -> None:
    assert post(alice, "k").json["id"] != post(bob, "k").json["id"]


def test_without_a_key_every_request_makes_a_task(alice: Client) -> None:
    assert len({alice.create()["id"] for _ in range(3)}) == 3


def test_a_key_lives_as_long_as_its_task(alice: Client) -> None:
    first = post(alice, "k")
    alice.call("DELETE", first.json["id"])
    again = post(alice, "k", "another")
    assert again.status == 201
    assert again.json["id"] > first.json["id"]
    assert "Idempotency-Replayed" not in again.headers


def test_a_retry_gets_the_first_response_even_if_the_task_has_changed(alice: Client) -> None:
    body = {"title": "Buy milk", "description": "Two litres", "completed": True}
    first = alice.call("POST", body=body, headers={"Idempotency-Key": "k"})
    changed = alice.call("PUT", first.json["id"], {"title": "Buy rye", "description": None, "completed": False})
    again = alice.call("POST", body=body, headers={"Idempotency-Key": "k"})
    assert (again.body, again.headers["ETag"]) == (first.body, first.headers["ETag"])
    assert alice.list() == [changed.json]


@pytest.mark.parametrize("key", ["x" * 256, "ü", "\x7f"])
def test_an_invalid_key_is_refused(alice: Client, key: str) -> None:
    answer = post(alice, key)
    assert answer.status == 422
    assert answer.json["detail"][0]["loc"] == ["header", "Idempotency-Key"]
    assert alice.list() == []


@pytest.mark.parametrize(("body", "status"), [(b" " * 70_000, 413), (b"{", 400)])
def test_a_bad_body_is_reported_before_a_bad_key(alice: Client, body: bytes, status: int) -> None:
    assert alice.call("POST", body=body, headers={"Idempotency-Key": "x" * 256}).status == status


def test_a_request_with_a_bad_body_does_not_use_the_key(alice: Client) -> None:
    assert post(alice, "k", "").status == 422
    assert post(alice, "k").status == 201


def test_exactly_one_of_many_simultaneous_responses_is_not_a_replay(alice: Client) -> None:
    with ThreadPoolExecutor(8) as threads:
        for n in range(50):
            responses = list(threads.map(lambda _, key=f"k{n}": post(alice, key), range(8)))
            assert {response.status for response in responses} == {201}
            assert sum("Idempotency-Replayed" not in response.headers for response in responses) == 1
            assert len({response.body for response in responses}) == 1


def test_a_retry_in_the_same_microsecond_is_a_replay(sql: psycopg.Connection) -> None:
    values = {"user_id": f"alice-{uuid.uuid4()}", "body": '{"title": "x"}', "idempotency_key": "k"}
    with sql.transaction():  # now() does not change within a transaction
        replayed = [execute(sql, SQL / "create_task_once.sql", {**values, "attempt": n}).fetchone() for n in "12"]
    assert [row and row[3] for row in replayed] == [False, True]
