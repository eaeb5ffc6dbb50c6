from typing import Any

import pytest

from tests.support.client import Client

CHANGEABLE = ["title", "description", "completed"]


def test_it_works(alice: Client) -> None:
    task = alice.create()
    answer = alice.call("PUT", task["id"], {"title": "Buy bread", "description": "Rye", "completed": True})
    assert answer.status == 200
    assert [answer.json[field] for field in CHANGEABLE] == ["Buy bread", "Rye", True]
    assert answer.json["created_at"] == task["created_at"]
    assert answer.json["updated_at"] > task["updated_at"]
    assert alice.call("GET", task["id"]).json == answer.json


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, ["Buy milk", "Two litres", True]),
        ({"title": "Buy bread"}, ["Buy bread", "Two litres", True]),
        ({"title": None}, ["Buy milk", "Two litres", True]),
        ({"description": None}, ["Buy milk", None, True]),
        ({"description": ""}, ["Buy milk", "", True]),
        ({"completed": False}, ["Buy milk", "Two litres", False]),
        ({"completed": None}, ["Buy milk", "Two litres", True]),
        ({"user_id": "mallory", "id": 1, "unknown": "\0\ud800"}, ["Buy milk", "Two litres", True]),
    ],
)
def test_only_the_fields_of_the_body_change(alice: Client, body: Any, expected: list[Any]) -> None:
    task = alice.create("Buy milk", description="Two litres", completed=True)
    answer = alice.call("PUT", task["id"], body)
    assert answer.status == 200
    assert [answer.json[field] for field in CHANGEABLE] == expected
    assert (answer.json["id"], answer.json["user_id"]) == (task["id"], alice.user_id)
    assert answer.json["updated_at"] > task["updated_at"]


def test_a_whole_task_can_be_sent_back(alice: Client) -> None:
    task = alice.create("Buy milk", description="Two litres")
    answer = alice.call("PUT", task["id"], task)
    assert answer.status == 200
    assert [answer.json[field] for field in CHANGEABLE] == [task[field] for field in CHANGEABLE]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"title": ""}, ["title"]),
        ({"title": " "}, ["title"]),
        ({"title": "x" * 201, "description": "x" * 1001, "completed": "x"}, ["title", "description", "completed"]),
        ({"title": "\0"}, ["title"]),
        ({"description": "\ud800"}, ["description"]),
        ([], ["body"]),
        (None, ["body"]),
    ],
)
def test_it_rejects_every_bad_field_at_once(alice: Client, body: Any, fields: list[str]) -> None:
    task = alice.create()
    answer = alice.call("PUT", task["id"], body)
    assert answer.status == 422
    assert sorted(problem["loc"][-1] for problem in answer.json["detail"]) == sorted(fields)
    assert alice.call("GET", task["id"]).json == task


def test_it_needs_a_body(alice: Client) -> None:
    assert alice.call("PUT", alice.create()["id"]).status == 400
