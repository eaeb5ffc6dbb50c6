"""The parameters of the list, alone and combined, compared with a reference implementation in Python."""

import itertools
import random
import re
import uuid
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.client import Client, Response, in_process

Task = dict[str, Any]
WORDS = ["milk", "MILK", "Milch", "bread", "100%", "a_b", "Ünïcödé", "x\\y", "it's", "_", "%"]


def ask(client: Client, **parameters: Any) -> Response:
    return client.call("GET", f"?{urlencode(parameters)}")


def reference(tasks: list[Task], parameters: dict[str, Any]) -> list[Task]:
    """Return the tasks that a list with these parameters must contain, ignoring `limit`."""
    search, status, descending = parameters.get("search"), parameters.get("status", "all"), parameters.get("order") == "desc"
    keys = {
        "created_at": lambda task: task["id"],
        "updated_at": lambda task: (task["updated_at"], task["id"]),
        "title": lambda task: (task["title"], task["id"]),
    }
    found = [
        task
        for task in tasks
        if (status == "all" or task["completed"] == (status == "completed"))
        and (search is None or any(search.lower() in (task[field] or "").lower() for field in ("title", "description")))
    ]
    sort = parameters.get("sort", "created_at")
    found.sort(key=keys[{"created": "created_at", "updated": "updated_at"}.get(sort, sort)], reverse=descending)
    if after := parameters.get("after"):
        found = [task for task in found if (task["id"] < after if descending else task["id"] > after)]
    return found[parameters.get("offset", 0) :]


@pytest.fixture(scope="module")
def rich(app: Flask, database_url: str) -> Client:
    """Create a user with 300 tasks. Some have equal titles or times, and other users' tasks lie in between."""
    client = Client(in_process(app), f"rich-{uuid.uuid4()}")
    chance = random.Random(4)
    with psycopg.connect(database_url, autocommit=True) as conn:
        for _ in range(300):
            title = " ".join(chance.choices(WORDS, k=chance.randint(1, 2)))
            description = chance.choice([None, "", *WORDS])
            minute = chance.randrange(20)
            conn.execute(
                "INSERT INTO tasks (user_id, title, description, completed, updated_at) VALUES"
                " (%s, %s, %s, %s, timestamptz '2026-01-01 00:00+00' + %s * interval '1 minute'),"
                " ('other', 'milk', '', true, now())",
                [client.user_id, title, description, chance.random() < 0.4, minute],
            )
    return client


PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["all", "pending", "completed"]),
        "search": st.sampled_from([*WORDS, "mil", "i", "B", " ", "nowhere", "ünÏ"]),
        "sort": st.sampled_from(["created_at", "updated_at", "title", "created", "updated"]),
        "order": st.sampled_from(["asc", "desc"]),
        "limit": st.sampled_from([1, 2, 7, 50, 299, 300, 301, 1000]),
        "offset": st.sampled_from([0, 1, 5, 299, 300, 10_000]),
    },
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parameters=PARAMETERS, place=st.integers(0, 400))
def test_a_list_equals_that_of_the_reference(rich: Client, parameters: dict[str, Any], place: int) -> None:
    tasks = rich.list()
    if parameters.get("sort", "created").startswith("created") and place < 300:
        parameters = {**parameters, "after": tasks[place]["id"]}
    answer = ask(rich, **parameters)
    assert answer.status == 200
    expected = reference(tasks, parameters)
    limit = parameters.get("limit", len(expected))
    assert answer.json == expected[:limit]
    assert ("Link" in answer.headers) == (len(expected) > limit)


@pytest.mark.parametrize(
    ("sort", "order", "status", "limit"),
    list(itertools.product(["created_at", "updated_at", "title"], ["asc", "desc"], ["all", "pending"], [1, 7, 100, 300])),
)
def test_following_the_links_returns_every_task_once(rich: Client, sort: str, order: str, status: str, limit: int) -> None:
    parameters = {"sort": sort, "order": order, "status": status}
    expected = reference(rich.list(), parameters)
    pages = walk(rich, {**parameters, "limit": limit, "mine": "kept & sent"})
    assert list(itertools.chain(*pages)) == expected
    assert all(len(page) == limit for page in pages[:-1])


def walk(client: Client, parameters: dict[str, Any]) -> list[list[Task]]:
    path, pages = f"/api/{client.user_id}/tasks?{urlencode(parameters)}", []
    while path:
        answer = client.send("GET", path, client.headers, None)
        assert answer.status == 200, answer
        pages.append(answer.json)
        path = next_path(answer)
    return pages


def next_path(answer: Response) -> str:
    """Return the path of the next page, or "" on the last page."""
    link = answer.headers.get("Link", "")
    match = re.fullmatch(r'(?:<(/api/[^>]+)>; rel="next")?', link)
    assert match, link
    return match[1] or ""


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_creates_and_deletes_between_pages_lose_and_repeat_no_task(alice: Client, order: str) -> None:
    chance = random.Random(7)
    stay = [alice.create(f"stays {n}")["id"] for n in range(30)]
    go = [alice.create(f"goes {n}")["id"] for n in range(30)]
    path, seen = f"/api/{alice.user_id}/tasks?limit=7&order={order}", []
    while path:
        answer = alice.send("GET", path, alice.headers, None)
        seen += [task["id"] for task in answer.json]
        path = next_path(answer)
        alice.create("comes")
        if go:
            alice.call("DELETE", go.pop(chance.randrange(len(go))))
    assert len(seen) == len(set(seen))
    assert set(stay) <= set(seen)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *itertools.product(["status"], ["done", "ALL", "all,pending"]),
        *itertools.product(["sort"], ["id", "-created", "CREATED", "completed"]),
        *itertools.product(["order"], ["up", "DESC"]),
        *itertools.product(["limit"], ["0", "-1", "1001", "1.5", "1e2", "abc", "٣", "9" * 30, " 5", "+5", "null"]),
        *itertools.product(["offset"], ["-1", "abc", "9" * 30, "1.0"]),
        *itertools.product(["after"], ["0", "-1", "abc", str(2**53), "9" * 400]),
        *itertools.product(["search"], ["x" * 201, "a\0b"]),
    ],
)
def test_a_bad_parameter_is_named(alice: Client, parameter: str, value: str) -> None:
    answer = ask(alice, **{parameter: value})
    assert answer.status == 422
    assert [problem["loc"] for problem in answer.json["detail"]] == [["query", parameter]]
    assert parameter in answer.json["error"]


def test_all_bad_parameters_are_named_at_once(alice: Client) -> None:
    answer = ask(alice, limit=0, offset=-1, sort="x")
    assert sorted(problem["loc"][1] for problem in answer.json["detail"]) == ["limit", "offset", "sort"]


def test_after_only_works_in_order_of_creation(alice: Client) -> None:
    for sort in ("created", "created_at", ""):
        assert ask(alice, after=1, sort=sort).status == 200
    for sort in ("updated", "updated_at", "title"):
        answer = ask(alice, after=1, sort=sort)
        assert (answer.status, answer.json["detail"][0]["loc"]) == (422, ["query", "after"])


@pytest.mark.parametrize("sort", ["created", "updated"])
def test_short_names_of_sort_give_the_same_list_and_links(rich: Client, sort: str) -> None:
    for parameters in ({"order": "desc"}, {"limit": 200}):
        short, long = ask(rich, sort=sort, **parameters), ask(rich, sort=f"{sort}_at", **parameters)
        assert short.json == long.json
        assert next_path(short) == next_path(long).replace(f"sort={sort}_at", f"sort={sort}")


def test_an_empty_parameter_counts_as_absent(rich: Client) -> None:
    names = ["status", "search", "sort", "order", "limit", "offset", "after"]
    for empty in ([name] for name in names), [names]:
        for chosen in empty:
            answer = ask(rich, **dict.fromkeys(chosen, ""))
            assert (answer.status, answer.json) == (200, rich.list())
    assert walk(rich, {**dict.fromkeys(names, ""), "limit": 100}) == walk(rich, {"limit": 100})


def test_unknown_parameters_are_ignored(alice: Client) -> None:
    task = alice.create()
    assert ask(alice, priority="high", user_id="bob", _external="1", page="%00").json == [task]


def test_unknown_parameters_do_not_break_the_link(alice: Client) -> None:
    for _ in range(3):
        alice.create()
    assert len(walk(alice, {"limit": 1, "user_id": "bob", "_external": "1", "_anchor": "x", "q": 'a"b>; <c\r\nX: y'})) == 3


@pytest.mark.parametrize("search", ["%", "_", "\\", "'", "100%", "a_b", "x" * 200])
def test_a_search_is_literal(alice: Client, search: str) -> None:
    alice.create("other words")
    hit = alice.create(f"x{search}"[:200])
    assert ask(alice, search=search).json == ([hit] if search in hit["title"] else [])


def test_an_email_address_as_user_id_survives_the_link(alice: Client) -> None:
    odd = Client(alice.send, f"ünï+{uuid.uuid4()}@example.com")
    tasks = [odd.create() for _ in range(3)]
    answer = odd.call("GET", "?limit=2")
    following = odd.send("GET", next_path(answer), odd.headers, None)
    assert answer.json + following.json == tasks


@pytest.mark.parametrize(
    ("title", "search"),
    [
        ("Caf\u00e9", "cafe\u0301"),  # composed and decomposed characters
        ("Cafe\u0301", "caf\u00e9"),
        ("CAF\u00c9", "cafe\u0301"),
        ("\u039f\u0394\u039f\u03a3", "\u03bf\u03b4\u03bf\u03c2"),  # final sigma
        ("\u03bf\u03b4\u03bf\u03c2", "\u039f\u0394\u039f\u03a3"),
    ],
)
def test_a_search_finds_text_that_looks_the_same(alice: Client, title: str, search: str) -> None:
    by_title, by_description = alice.create(title), alice.create("x", description=title)
    alice.create("something else")
    for parameters in ({}, {"order": "desc"}, {"sort": "title"}):
        found = ask(alice, search=search, **parameters).json
        assert {task["id"] for task in found} == {by_title["id"], by_description["id"]}
