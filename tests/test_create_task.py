from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.client import Client

FIELDS = ["id", "user_id", "title", "description", "completed", "created_at", "updated_at"]


def test_it_works(alice: Client) -> None:
    answer = alice.call("POST", body={"title": "Buy milk", "description": "Two litres", "completed": True})
    assert answer.status == 201
    task = answer.json
    assert list(task) == FIELDS
    assert task["id"] >= 1
    assert (task["user_id"], task["title"], task["description"], task["completed"]) == (
        alice.user_id,
        "Buy milk",
        "Two litres",
        True,
    )
    assert task["created_at"] == task["updated_at"]
    assert alice.list() == [task]


def test_the_location_header_is_the_path_of_the_task(alice: Client) -> None:
    answer = alice.call("POST", body={"title": "Buy milk"})
    assert answer.headers["Location"] == f"/api/{alice.user_id}/tasks/{answer.json['id']}"
    assert alice.call("GET", answer.json["id"]).json == answer.json


def test_only_the_title_is_required(alice: Client) -> None:
    task = alice.create("Buy milk")
    assert (task["description"], task["completed"]) == (None, False)


def test_times_are_utc_with_an_offset(alice: Client) -> None:
    created = datetime.fromisoformat(alice.create()["created_at"])
    assert created.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - created) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "title", ["x", "x" * 200, "😀" * 200, "  spaces stay  ", "\ttab\n", "Ünïcödé", "\u200b", "'; DROP TABLE tasks; --"]
)
def test_a_title_is_stored_as_sent(alice: Client, title: str) -> None:
    assert alice.create(title)["title"] == title
    assert alice.list()[0]["title"] == title


@pytest.mark.parametrize("description", ["", "x" * 1000, "😀" * 1000, None, "%s %(name)s :'body' \\ \" {}"])
def test_a_description_is_stored_as_sent(alice: Client, description: str | None) -> None:
    assert alice.create(description=description)["description"] == description


def test_fields_that_the_service_sets_are_ignored(alice: Client, bob: Client) -> None:
    whole: dict[str, Any] = {
        "id": 1,
        "user_id": bob.user_id,
        "created_at": "2000-01-01T00:00:00Z",
        "updated_at": None,
        "priority": 3,
        "x": "\0",
    }
    task = alice.create(**whole)
    assert task["user_id"] == alice.user_id
    assert task["created_at"] > "2026"
    assert bob.list() == []


def test_a_created_task_can_be_sent_back(alice: Client) -> None:
    task = alice.create()
    assert alice.call("POST", body=task).status == 201


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["title"]),
        ({"title": None}, ["title"]),
        ({"title": ""}, ["title"]),
        ({"title": " \t\n\u00a0\u3000"}, ["title"]),
        ({"title": "x" * 201}, ["title"]),
        ({"title": 5}, ["title"]),
        ({"title": ["x"]}, ["title"]),
        ({"title": "a\0b"}, ["title"]),
        ({"title": "a\ud800b"}, ["title"]),
        ({"title": "\udc00"}, ["title"]),
        ({"title": "x", "description": "x" * 1001}, ["description"]),
        ({"title": "x", "description": 5}, ["description"]),
        ({"title": "x", "description": "\0"}, ["description"]),
        ({"title": "x", "description": "\udfff"}, ["description"]),
        ({"title": "x", "completed": None}, ["completed"]),
        ({"title": "x", "completed": 1}, ["completed"]),
        ({"title": "x", "completed": "true"}, ["completed"]),
        ({"title": 10**400, "description": 1e300, "completed": "no"}, ["title", "description", "completed"]),
        ([], []),
        ("title", []),
        (None, []),
        (5, []),
    ],
)
def test_it_rejects_every_bad_field_at_once(alice: Client, body: Any, fields: list[str]) -> None:
    answer = alice.call("POST", body=body)
    assert answer.status == 422
    detail = answer.json["detail"]
    assert [problem["loc"] for problem in detail] == ([["body", field] for field in fields] or [["body"]])
    assert len(detail) == max(len(fields), 1)
    assert all(set(problem) == {"loc", "msg", "type"} and problem["msg"] and problem["type"] for problem in detail)
    assert isinstance(answer.json["error"], str)
    assert all(field in answer.json["error"] for field in fields)
    assert alice.list() == []
