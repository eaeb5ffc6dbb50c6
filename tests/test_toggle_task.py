from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.support.client import UNSET, Client


def test_it_works(alice: Client) -> None:
    task = alice.create()
    answer = alice.call("PATCH", f"{task['id']}/complete")
    assert answer.status == 200
    assert answer.json == {**task, "completed": True, "updated_at": answer.json["updated_at"]}
    assert answer.json["updated_at"] > task["updated_at"]
    assert alice.call("PATCH", f"{task['id']}/complete").json["completed"] is False


@pytest.mark.parametrize("body", [UNSET, b"", {}, None, {"title": "ignored"}])
def test_it_flips_without_a_value(alice: Client, body: Any) -> None:
    path = f"{alice.create()['id']}/complete"
    assert [alice.call("PATCH", path, body).json["completed"] for _ in range(3)] == [True, False, True]


@pytest.mark.parametrize("value", [True, False])
def test_it_sets_the_value_of_the_body(alice: Client, value: bool) -> None:
    path = f"{alice.create()['id']}/complete"
    assert [alice.call("PATCH", path, {"completed": value}).json["completed"] for _ in range(3)] == [value] * 3


@pytest.mark.parametrize("body", [{"completed": None}, {"completed": 1}, {"completed": "true"}, [], "true", 1])
def test_it_rejects_a_value_that_is_not_a_boolean(alice: Client, body: Any) -> None:
    task = alice.create()
    answer = alice.call("PATCH", f"{task['id']}/complete", body)
    assert answer.status == 422
    assert alice.call("GET", task["id"]).json == task


def test_an_empty_body_of_any_type_flips(alice: Client) -> None:
    answer = alice.call(
        "PATCH", f"{alice.create()['id']}/complete", headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert (answer.status, answer.json["completed"]) == (200, True)


def test_concurrent_flips_are_all_counted(alice: Client) -> None:
    path = f"{alice.create()['id']}/complete"
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: alice.call("PATCH", path), range(101)))
    assert {answer.status for answer in answers} == {200}
    assert sum(answer.json["completed"] for answer in answers) == 51
    assert alice.list()[0]["completed"] is True


def test_the_time_of_a_change_always_increases(alice: Client, sql: psycopg.Connection) -> None:
    task = alice.create()
    future = "2999-01-01T00:00:00+00:00"
    sql.execute("UPDATE tasks SET updated_at = %s WHERE user_id = %s", [future, alice.user_id])
    assert alice.call("PATCH", f"{task['id']}/complete").json["updated_at"] == "2999-01-01T00:00:00.000001+00:00"
    assert alice.call("PUT", task["id"], {}).json["updated_at"] == "2999-01-01T00:00:00.000002+00:00"
