"""openapi.json and the service say the same."""

import json
import re
from typing import Any

import psycopg
import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.client import Client
from todo_api.validation import DOCUMENT

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


def test_every_reference_leads_somewhere() -> None:
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', DOCUMENT.read_text()):
        place = DOC
        for step in reference.split("/"):
            place = place[step]


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
def test_any_json_gets_a_sound_answer(alice: Client, body: Any, method: str) -> None:
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
def test_any_bytes_get_a_sound_answer(alice: Client, body: bytes, kind: str) -> None:
    assert alice.call("POST", body=body, headers={"Content-Type": kind}).status in (201, 400, 415, 422)
