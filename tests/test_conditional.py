"""ETags: a 304 for unchanged responses, and a 412 for a write to a task that has changed since it was read."""

import copy
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from flask import Flask

from tests.support.client import UNSET, Client
from todo_api.etags import fingerprint
from todo_api.validation import DOCUMENT

WRITES: list[tuple[str, str, Any]] = [
    ("PUT", "{id}", {"title": "Buy bread"}),
    ("PATCH", "{id}/complete", UNSET),
    ("DELETE", "{id}", UNSET),
]


def etag(client: Client, path: object) -> str:
    tag: str = client.call("GET", path).headers["ETag"]
    return tag


@pytest.mark.parametrize("path", ["", "?status=completed", "?limit=1", "{id}"])
def test_an_unchanged_response_is_a_304(alice: Client, path: str) -> None:
    task = alice.create()
    alice.create()
    path = path.format(id=task["id"])
    answer = alice.call("GET", path)
    tag = answer.headers["ETag"]
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert answer.headers["Vary"] == "Authorization, Origin"
    for condition in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = alice.call("GET", path, headers={"If-None-Match": condition})
        assert (again.status, again.body) == (304, b"")
        assert "Content-Type" not in again.headers
        assert [again.headers[name] for name in ("ETag", "Cache-Control", "Vary")] == [
            answer.headers[name] for name in ("ETag", "Cache-Control", "Vary")
        ]
        assert again.headers["Access-Control-Allow-Origin"]
    for condition in ('"other"', '"*"', '"other", "*"'):
        assert alice.call("GET", path, headers={"If-None-Match": condition}).json == answer.json


def test_every_change_changes_the_tag(alice: Client) -> None:
    task = alice.create()
    alone, together = [etag(alice, task["id"])], [etag(alice, "")]
    for method, path, body in [("PUT", "{id}", {}), *WRITES[:2], ("PATCH", "{id}/complete", UNSET)]:
        answer = alice.call(method, path.format(id=task["id"]), body)
        alone.append(etag(alice, task["id"]))
        together.append(etag(alice, ""))
        assert answer.headers["ETag"] == alone[-1]
    assert len(set(alone)) == len(alone)
    assert len(set(together)) == len(together)


def test_a_create_and_a_delete_change_the_lists_tag(alice: Client) -> None:
    tags = [etag(alice, "")]
    task = alice.create()
    tags.append(etag(alice, ""))
    alice.call("DELETE", task["id"])
    assert etag(alice, "") == tags[0] != tags[1]


def test_the_response_to_a_create_has_the_tag_of_the_task(alice: Client) -> None:
    answer = alice.call("POST", body={"title": "x"})
    assert answer.headers["ETag"] == etag(alice, answer.json["id"])


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_a_change_with_the_current_tag_succeeds(alice: Client, method: str, path: str, body: Any) -> None:
    for condition in ("{tag}", '"other", {tag}', "*"):
        task = alice.create()
        headers = {"If-Match": condition.format(tag=etag(alice, task["id"]))}
        assert alice.call(method, path.format(id=task["id"]), body, headers=headers).status in (200, 204)


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
@pytest.mark.parametrize("condition", ['"0"', '"2"', "W/{tag}", '"1,2"', '"x"', ",", '"1.0"', "'1'"])
def test_a_change_with_another_tag_is_refused(alice: Client, method: str, path: str, body: Any, condition: str) -> None:
    task = alice.create()
    headers = {"If-Match": condition.format(tag=etag(alice, task["id"]))}
    answer = alice.call(method, path.format(id=task["id"]), body, headers=headers)
    assert answer.status == 412
    assert isinstance(answer.json["detail"], str)
    assert alice.call("GET", task["id"]).json == task


@pytest.mark.parametrize("tags", ['""', 'W/"", "2", ""', ""])
def test_an_empty_tag_matches_no_version(alice: Client, tags: str) -> None:
    task = alice.create()
    answer = alice.send("PUT", f"/api/{alice.user_id}/tasks/{task['id']}", {**alice.headers, "If-Match": tags}, b"{}")
    assert answer.status == 412


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_if_match_on_a_missing_task_is_a_404(alice: Client, bob: Client, method: str, path: str, body: Any) -> None:
    gone, theirs = alice.create(), bob.create()
    tag = etag(alice, gone["id"])
    alice.call("DELETE", gone["id"])
    for task_id in (gone["id"], theirs["id"], "abc"):
        for condition in (tag, '"9"', "*"):
            answer = alice.call(method, path.format(id=task_id), body, headers={"If-Match": condition})
            assert (answer.status, answer.json) == (404, {"detail": "Task not found"})
    assert bob.list() == [theirs]


def test_a_change_that_is_undone_still_changes_the_tag(alice: Client) -> None:
    task = alice.create()
    tag = etag(alice, task["id"])
    for _ in range(2):
        alice.call("PATCH", f"{task['id']}/complete")
    assert alice.call("PUT", task["id"], {"title": "late"}, headers={"If-Match": tag}).status == 412


def test_a_new_task_does_not_match_the_tag_of_a_deleted_task(alice: Client) -> None:
    old = alice.create()
    tag = etag(alice, old["id"])
    alice.call("DELETE", old["id"])
    alice.create()
    assert alice.call("PUT", old["id"], {"title": "late"}, headers={"If-Match": tag}).status == 404


def test_only_one_of_two_concurrent_changes_succeeds(alice: Client) -> None:
    task = alice.create()
    with ThreadPoolExecutor(2) as threads:
        for n in range(200):
            headers = {"If-Match": etag(alice, task["id"])}
            racers = [threads.submit(alice.call, "PUT", task["id"], {"title": f"{n} {who}"}, headers=headers) for who in "ab"]
            answers = sorted((racer.result() for racer in racers), key=lambda answer: answer.status)
            assert [answer.status for answer in answers] == [200, 412]
            assert alice.call("GET", task["id"]).json == answers[0].json


def test_invalid_fields_are_reported_before_a_wrong_tag(alice: Client) -> None:
    task = alice.create()
    assert alice.call("PUT", task["id"], {"title": ""}, headers={"If-Match": '"9"'}).status == 422


def test_a_tag_that_contains_the_lists_tag_does_not_match(alice: Client) -> None:
    alice.create()
    answer = alice.call("GET")
    look_alike = f'"other,{answer.headers["ETag"][1:-1]},other"'
    again = alice.call("GET", headers={"If-None-Match": look_alike})
    assert (again.status, again.body) == (200, answer.body)


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_updated_at_of_a_list_item_works_as_a_tag(alice: Client, method: str, path: str, body: Any) -> None:
    alice.create()
    for condition in ('"{}"', '"other", "{}"'):
        task = alice.create()
        stale = alice.list()[-1]["updated_at"]
        alice.call("PATCH", f"{task['id']}/complete")
        current = alice.list()[-1]["updated_at"]
        refused = alice.call(method, path.format(id=task["id"]), body, headers={"If-Match": condition.format(stale)})
        assert (refused.status, refused.headers["ETag"]) == (412, etag(alice, task["id"]))
        accepted = alice.call(method, path.format(id=task["id"]), body, headers={"If-Match": condition.format(current)})
        assert accepted.status in (200, 204)


@pytest.mark.parametrize(
    "time", ["2026-13-01T00:00:00+00:00", "2026-11-26", "2026-11-26T00:00:00", "9999-12-31T23:59:59-23:59", "0"]
)
def test_an_invalid_time_as_a_tag_matches_nothing(alice: Client, time: str) -> None:
    task = alice.create()
    assert alice.call("PUT", task["id"], {}, headers={"If-Match": f'"{time}"'}).status == 412


def test_a_412_carries_the_current_tag(alice: Client) -> None:
    task = alice.create()
    response = alice.call("PUT", task["id"], {}, headers={"If-Match": '"old"'})
    assert response.headers["ETag"] == etag(alice, task["id"])
    assert alice.call("PUT", task["id"], {}, headers={"If-Match": response.headers["ETag"]}).status == 200


def test_the_tag_of_a_412_is_never_the_one_that_was_sent(alice: Client) -> None:
    task = alice.create()
    with ThreadPoolExecutor(4) as threads:
        for _ in range(50):
            tag = etag(alice, task["id"])
            racers = [threads.submit(alice.call, "PUT", task["id"], {}, headers={"If-Match": tag}) for _ in range(4)]
            refused = [racer.result() for racer in racers if racer.result().status == 412]
            assert len(refused) == 3
            assert all(response.headers.get("ETag") != tag for response in refused)


def test_racing_changes_all_have_different_times(alice: Client) -> None:
    task = alice.create()
    with ThreadPoolExecutor(8) as threads:
        changes = list(threads.map(lambda _: alice.call("PATCH", f"{task['id']}/complete").json["updated_at"], range(200)))
    assert len(set(changes)) == 200


def test_the_lists_tag_depends_on_its_json(alice: Client, sql: psycopg.Connection) -> None:
    """A change that does not change `updated_at`, as a release with a new field makes, changes the tag too."""
    alice.create()
    before = etag(alice, "")
    sql.execute("UPDATE tasks SET title = 'other' WHERE user_id = %s", [alice.user_id])
    assert etag(alice, "") != before


def test_a_changed_schema_changes_the_tag_of_a_task(alice: Client, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = alice.create()["id"]
    before = etag(alice, task_id)
    monkeypatch.setattr("todo_api.etags.TASK_FINGERPRINT", "another")
    assert alice.call("GET", task_id, headers={"If-None-Match": before}).status == 200
    assert etag(alice, task_id) != before


def test_the_fingerprint_depends_on_the_schema_of_a_task() -> None:
    schema = json.loads(DOCUMENT.read_bytes())["components"]["schemas"]["Task"]
    changed = copy.deepcopy(schema)
    changed["properties"]["priority"] = {"type": "integer"}
    assert fingerprint(schema) != fingerprint(changed)


HEADERS = [
    "If-Match",
    "If-None-Match",
    "If-Modified-Since",
    "If-Range",
    "Range",
    "Accept",
    "Content-Type",
    "Authorization",
    "Cookie",
]
ODD = [
    "",
    '""',
    'W/""',
    '"x", ""',
    '"", "1"',
    '"',
    '"x',
    "*, *",
    '"*"',
    ",",
    '"' + "x" * 4000 + '"',
    '"\xff"',
    "\xe9",
    "bytes=0-",
    "a" * 8000,
]


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("header", HEADERS)
def test_no_header_value_causes_a_5xx(alice: Client, header: str, value: str) -> None:
    task = alice.create()
    for method, path, body in [
        ("GET", "", None),
        ("GET", task["id"], None),
        ("POST", "", b'{"title": "x"}'),
        *[(m, p.format(id=task["id"]), b"{}") for m, p, _ in WRITES],
    ]:
        url = f"/api/{alice.user_id}/tasks" + (f"/{path}" if path else "")
        assert alice.send(method, url, {**alice.headers, header: value}, body).status < 500
    for url in ("/health", "/ready", "/openapi.json", "/nope"):
        assert alice.send("GET", url, {header: value}, None).status < 500
