"""The service agrees with openapi.json, and its error messages are readable."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.exceptions import UnprocessableEntity

from tests.support.client import Client, Response, application, in_process
from todo_api import validation
from todo_api.validation import DOCUMENT, RequestSchema

DOC: dict[str, Any] = json.loads(DOCUMENT.read_bytes())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
BODIES = JSON | st.dictionaries(st.sampled_from(["title", "description", "completed", "id", "user_id", "x"]), JSON)


def test_routes_and_document_are_equal(app: Flask) -> None:
    served = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower(), rule.endpoint.rpartition(".")[2])
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    documented = {
        (path, method, operation["operationId"])
        for path, operations in DOC["paths"].items()
        for method, operation in operations.items()
        if method != "parameters"
    }
    assert served == documented


def test_every_reference_exists() -> None:
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', DOCUMENT.read_text()):
        place = DOC
        for step in reference.split("/"):
            place = place[step]


def test_new_tasks_and_changes_have_the_same_limits() -> None:
    new, change = (DOC["components"]["schemas"][name]["properties"] for name in ("NewTask", "TaskChange"))
    for name in new:
        assert {**new[name], "type": None, "description": None} == {**change[name], "type": None, "description": None}


def test_the_table_has_the_limits_of_the_document(sql: psycopg.Connection, alice: Client) -> None:
    fields = DOC["components"]["schemas"]["TaskChange"]["properties"]
    for name in ("title", "description"):
        longest = "x" * fields[name]["maxLength"]
        values = {"user_id": alice.user_id, "title": "x", "description": None, name: longest}
        insert = "INSERT INTO tasks (user_id, title, description) VALUES (%(user_id)s, %(title)s, %(description)s)"
        sql.execute(insert, values)
        with pytest.raises(psycopg.errors.CheckViolation):
            sql.execute(insert, {**values, name: f"{longest}x"})
    with pytest.raises(psycopg.errors.CheckViolation):
        sql.execute(insert, {"user_id": alice.user_id, "title": " \n", "description": None})


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES, method=st.sampled_from(["POST", "PUT", "PATCH"]))
def test_any_json_gets_a_valid_response(alice: Client, body: Any, method: str) -> None:
    path = {"POST": "", "PUT": "1", "PATCH": "1/complete"}[method]
    answer = alice.call(method, path, body)
    assert answer.status in (200, 201, 400, 404, 413, 415, 422)
    if answer.status == 201:
        task = answer.json
        assert task["title"] == body["title"]
        assert task["description"] == body.get("description")
        assert task["completed"] is body.get("completed", False)
        assert alice.call("GET", task["id"]).json == task


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200), kind=st.sampled_from(["", "application/json", "text/plain"]))
def test_any_bytes_get_a_valid_response(alice: Client, body: bytes, kind: str) -> None:
    assert alice.call("POST", body=body, headers={"Content-Type": kind}).status in (201, 400, 415, 422)


NUL = "must not contain U+0000 or a lone surrogate"


@pytest.mark.parametrize(
    ("method", "path", "body", "error"),
    [
        ("POST", "", {}, "title: is required"),
        ("POST", "", {"title": ""}, "title: must not be empty"),
        ("POST", "", {"title": " \n"}, "title: must not be empty"),
        ("POST", "", {"title": None}, "title: must be text"),
        ("POST", "", {"title": 5}, "title: must be text"),
        ("POST", "", {"title": "x" * 201}, "title: must be at most 200 characters"),
        ("POST", "", {"title": "a\0"}, f"title: {NUL}"),
        ("POST", "", {"title": "\ud800"}, f"title: {NUL}"),
        ("POST", "", {"title": "x", "description": "\0"}, f"description: {NUL}"),
        ("POST", "", {"title": "x", "description": 1}, "description: must be text"),
        ("POST", "", {"title": "x", "completed": "yes"}, "completed: must be true or false"),
        ("POST", "", [], "body: must be a JSON object"),
        (
            "POST",
            "",
            {"completed": 0, "description": "x" * 1001},
            "title: is required; description: must be at most 1000 characters; completed: must be true or false",
        ),
        ("PUT", "1", {"completed": 1, "title": "\t"}, "title: must not be empty; completed: must be true or false"),
        ("PUT", "1", None, "body: must be a JSON object"),
        ("PATCH", "1/complete", {"completed": None}, "completed: must be true or false"),
        ("PATCH", "1/complete", [], "body: must be a JSON object"),
    ],
)
def test_users_can_read_what_is_wrong_in_a_body(alice: Client, method: str, path: str, body: Any, error: str) -> None:
    answer = alice.call(method, path, body)
    assert (answer.status, answer.json["error"]) == (422, error)
    assert_shape(answer, ["body"])


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("limit=0", "limit: must be a whole number from 1 to 1000"),
        ("limit=1.5", "limit: must be a whole number from 1 to 1000"),
        ("limit=99999999999999999999", "limit: must be a whole number from 1 to 1000"),
        ("offset=-1", f"offset: must be a whole number from 0 to {2**53 - 1}"),
        ("after=3&sort=title", "after: only works with sort=created_at"),
        ("after=3&sort=updated", "after: only works with sort=created_at"),
        ("status=done", "status: must be one of all, pending, completed"),
        ("sort=id", "sort: must be one of created_at, updated_at, title, created, updated"),
        ("search=a%00", "search: must not contain U+0000"),
        (f"search={'x' * 201}", "search: must be at most 200 characters"),
        ("limit=x&order=up&status=x", None),
    ],
)
def test_users_can_read_what_is_wrong_in_a_parameter(alice: Client, query: str, error: str | None) -> None:
    answer = alice.call("GET", f"?{query}")
    names = [parameter.get("name") for parameter in DOC["paths"]["/api/{user_id}/tasks"]["get"]["parameters"]]
    assert answer.status == 422
    assert answer.json["error"] == error if error else names.index("status") < names.index("order") < names.index("limit")
    assert_shape(answer, ["query"])
    found = [names.index(problem["loc"][1]) for problem in answer.json["detail"]]
    assert found == sorted(found)


def test_users_can_read_what_is_wrong_in_a_header(alice: Client) -> None:
    for key, message in {
        "": "must not be empty",
        "ü": "must contain only printable ASCII characters",
        "x" * 256: "must be at most 255 characters",
    }.items():
        headers = {**alice.headers, "Idempotency-Key": key, "Content-Type": "application/json"}
        answer = alice.send("POST", f"/api/{alice.user_id}/tasks", headers, b'{"title": "x"}')
        assert (answer.status, answer.json["error"]) == (422, f"Idempotency-Key: {message}")
        assert_shape(answer, ["header"])


def test_a_format_is_checked() -> None:
    schema = RequestSchema({"properties": {"due": {"type": "string", "format": "date"}}}, {"due": "query"})
    schema.check({"due": "2026-02-28"})
    with pytest.raises(UnprocessableEntity) as error:
        schema.check({"due": "2026-02-30"})
    problems: Any = error.value.description
    assert problems == [{"loc": ["query", "due"], "msg": "must be a valid date", "type": "format"}]


def assert_shape(answer: Response, location: list[str]) -> None:
    """Assert that each problem has the right fields, a keyword as its type, and a message without JSON Schema jargon."""
    for problem in answer.json["detail"]:
        assert problem.keys() == {"loc", "msg", "type"}
        assert problem["loc"][:1] == location
        assert re.fullmatch("[a-zA-Z]+", problem["type"])
        assert not re.search(r"schema|pattern|value is|of type|\"|\\\\", problem["msg"])


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "Body is empty, but must be a JSON object"),
        (b" \n", "Body is empty, but must be a JSON object"),
        (b'\xef\xbb\xbf{"title": "x"}', "Body must not begin with a byte order mark (BOM)"),
        ('{"title": "x"}'.encode("utf-16"), "Body must be UTF-8"),
        (b'{"title": NaN}', "Body must not have NaN"),
        (b'{"title": "x", "title": "y"}', "Body has the same name twice"),
        (b"[" * 10_000, "Body is nested too deeply"),
        (b'{"title":' + b"[" * 500 + b"]" * 500 + b"}", "Body is nested too deeply"),
        (b'{"title": ' + b"9" * 5000 + b"}", "Body is not valid JSON"),
        (b"{", "Body is not valid JSON"),
    ],
)
def test_a_body_that_is_not_json_is_explained(alice: Client, body: bytes, detail: str) -> None:
    answer = alice.call("POST", body=body)
    assert (answer.status, answer.json) == (400, {"detail": detail})


def test_the_examples_of_errors_equal_real_responses(alice: Client, bob: Client) -> None:
    task = alice.create()["id"]
    answers = [
        alice.call("POST", body=b"{"),
        alice.call("GET", of=bob),
        alice.call("GET", 2**50),
        alice.call("POST", body=b" " * 70_000),
        alice.call("POST", body=b"{}", headers={"Content-Type": "text/plain"}),
    ]
    with application("postgresql://127.0.0.1:1/none?connect_timeout=1") as app:
        answers.append(Client(in_process(app), "alice").call("GET"))
    examples = {status: example["value"] for status, example in DOC["components"]["examples"].items()}
    assert {str(answer.status): answer.json for answer in answers} == examples
    responses = {
        name: response["content"]["application/json"]
        for name, response in DOC["components"]["responses"].items()
        if "content" in response
    }
    assert alice.call("POST", body={"title": ""}).json == responses["UnprocessableContent"]["example"]
    assert alice.call("PUT", task, {}, headers={"If-Match": '"x"'}).json == responses["PreconditionFailed"]["example"]
    assert answers[-1].json == responses["Unavailable"]["example"]


def test_user_id_is_the_first_parameter() -> None:
    for path, operations in DOC["paths"].items():
        for operation in operations.values():
            if "{user_id}" in path:
                assert operation["parameters"][0] == {"$ref": "#/components/parameters/user_id"}
    assert DOC["components"]["parameters"]["user_id"]["example"] == "alice"


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str) -> Iterator[Client]:
    """Run a service with an additional operation. Its view returns the values that a statement would get."""
    number = {"type": ["integer", "null"], "minimum": 1}
    operation = {
        "operationId": "made_up",
        "parameters": [
            {"name": "status", "in": "query", "required": True, "schema": {"type": "string"}},
            {"name": "X-Reason", "in": "header", "required": True, "schema": {"type": "string"}},
        ],
        "requestBody": {"content": {"application/json": {"schema": {"properties": {"n": number}, "type": "object"}}}},
    }
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps({**DOC, "paths": {**DOC["paths"], "/api/{user_id}/tasks/made-up": {"post": operation}}}))
    monkeypatch.setattr(validation, "DOCUMENT", document)
    with application(database_url) as app, psycopg.connect(database_url) as conn:

        def view(user_id: str) -> dict[str, Any]:
            body = validation.read_body("made_up")
            (n,) = conn.execute("SELECT (%s::jsonb ->> 'n')::int", [body]).fetchone() or ()
            return {"body": body, "n": n, **validation.read_parameters("made_up")}

        app.add_url_rule("/api/<user_id>/tasks/made-up", view_func=view, methods=["POST"])
        yield Client(in_process(app), "alice")


@pytest.mark.parametrize("query", ["", "?status=", "?x=y"])
def test_a_required_parameter_is_required(made_up: Client, query: str) -> None:
    answer = made_up.call("POST", f"made-up{query}")
    assert (answer.status, answer.json["error"]) == (422, "status: is required; X-Reason: is required")
    assert [problem["loc"] for problem in answer.json["detail"]] == [["query", "status"], ["header", "X-Reason"]]


def test_a_required_parameter_reaches_the_view(made_up: Client) -> None:
    answer = made_up.call("POST", "made-up?status=done", headers={"X-Reason": "why not"})
    assert (answer.status, answer.json) == (200, {"body": "{}", "n": None, "status": "done", "x_reason": "why not"})


@pytest.mark.parametrize(
    ("body", "n"),
    [(b'{"n": 1.0}', 1), (b'{"n": 1e3}', 1000), (b'{"n": 7}', 7), (b'{"n": null}', None), (b'{"n": 2.0, "x": 1}', 2)],
)
def test_a_whole_float_becomes_an_integer(made_up: Client, body: bytes, n: int | None) -> None:
    answer = made_up.call("POST", "made-up?status=done", body, headers={"X-Reason": "x"})
    assert (answer.status, answer.json["n"]) == (200, n)


@pytest.mark.parametrize("body", [b'{"n": 1.5}', b'{"n": 1e400}', b'{"n": 0.0}', b'{"n": "1"}', b'{"n": true}'])
def test_a_value_that_is_not_an_integer_is_explained(made_up: Client, body: bytes) -> None:
    answer = made_up.call("POST", "made-up?status=done", body, headers={"X-Reason": "x"})
    assert (answer.status, answer.json["error"]) == (422, "n: must be a whole number from 1")


@pytest.mark.parametrize(
    ("sent", "passed_on"),
    [('{"n":  5}', '{"n": 5}'), ('{"n": 5, "x": 1}', '{"n": 5}'), ('{"n": 5.0}', '{"n": 5}'), ("null", "{}"), ("{}", "{}")],
)
def test_only_declared_fields_are_passed_on(made_up: Client, sent: str, passed_on: str) -> None:
    answer = made_up.call("POST", "made-up?status=done", sent.encode(), headers={"X-Reason": "x"})
    assert answer.json["body"] == passed_on


def test_undeclared_fields_may_hold_anything(alice: Client) -> None:
    body = '{"title": "\\ud83d\\ude00", "x": "\\ud800\\u0000", "\\udc00": [1e999, {"title": "\\u0000"}]}'
    answer = alice.call("POST", body=body.encode())
    assert (answer.status, answer.json["title"]) == (201, "😀")
