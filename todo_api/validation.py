"""What a request may hold is said once, in openapi.json; here it is enforced."""

import json
import re
from pathlib import Path
from typing import Any

from flask import Flask, abort, current_app, request
from jsonschema_rs import Draft202012Validator, ValidationError, ValidationErrorKind, dereference

from todo_api import request_body
from todo_api.config import Config

DOCUMENT = Path(__file__).with_name("openapi.json")
Schema = dict[str, Any]


class Rule:
    """What openapi.json says of the values that a request may hold.

    Attributes:
        fields: the schema of each value, by name.
        places: where each of them is looked for, the first element of a problem's `loc`.
        keys: and under which name, that of a header in WSGI's environment.
        defaults: what a statement gets for a parameter that is absent.
    """

    def __init__(self, schema: Schema, places: dict[str, str]) -> None:
        parts = [schema, *schema.get("allOf", ())]
        self.fields: dict[str, Schema] = {name: field for part in parts for name, field in part.get("properties", {}).items()}
        self.places = places
        self.keys = {name: name if place == "query" else f"HTTP_{_column(name).upper()}" for name, place in places.items()}
        self.defaults = {_column(name): str(field.get("default", "")) for name, field in self.fields.items()}
        self.validator = Draft202012Validator(schema, mask="value")

    def check(self, values: object) -> None:
        """Answer 422 with one `{"loc", "msg", "type"}` for each bad value."""
        found = [self._problem(error) for error in self.validator.iter_errors(values)]
        if found:
            abort(422, list({tuple(problem["loc"]): problem for problem in reversed(found)}.values()))

    def _problem(self, error: ValidationError) -> dict[str, Any]:
        path, message = list(error.instance_path), error.message
        match error.kind:
            case ValidationErrorKind.Required(property=name):
                path, message = [*path, name], "value is required"
            case ValidationErrorKind.Pattern():
                message = f"value must have {self.fields[str(path[-1])]['x-pattern']}"
        place = self.places.get(str(path[0]), "body") if path else "body"
        return {"loc": [place, *path], "msg": message, "type": error.kind.name}


def init_app(app: Flask, _: Config) -> None:
    document = dereference(json.loads(DOCUMENT.read_bytes()))
    app.config["MAX_CONTENT_LENGTH"] = request_body.MAX_BYTES + 1  # one more: werkzeug silently cuts a chunked body there
    app.extensions["bodies"], app.extensions["parameters"] = {}, {}
    for path in document["paths"].values():
        for operation in (each for method, each in path.items() if method != "parameters"):
            name, declared = operation["operationId"], operation.get("parameters", [])
            if "requestBody" in operation:
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                app.extensions["bodies"][name] = Rule(schema, {}), operation["requestBody"]["required"]
            schema = {"properties": {each["name"]: each["schema"] for each in declared}, **operation.get("x-parameters", {})}
            app.extensions["parameters"][name] = Rule(schema, {each["name"]: each["in"] for each in declared})


def body(operation: str) -> str:
    """The JSON body of the request, reduced to the fields that openapi.json declares, as text for a statement.

    Answers 413, 415, 400 or, with every bad field, 422.
    """
    rule, required = current_app.extensions["bodies"][operation]
    raw = request_body.read()
    fields = request_body.parse(raw) if raw or required else {}
    if isinstance(fields, dict):
        fields = {name: fields[name] for name in rule.fields if name in fields}
    try:
        rule.check(fields)
    except ValueError:  # nested deeper than the validator goes
        abort(400, "Body is nested too deeply")
    return request_body.ENCODER.encode(fields)


def parameters(operation: str) -> dict[str, str]:
    """The query parameters and headers that openapi.json names, as text for a statement, `Idempotency-Key` as `idempotency_key`.

    Answers 422 with every bad one.
    """
    rule: Rule = current_app.extensions["parameters"][operation]
    # Looked for before they are asked for: werkzeug makes an HTTPException for each name that is not there.
    sources = {"query": request.args if request.query_string else {}, "header": request.environ}
    given = {name: source[key] for name, key in rule.keys.items() if key in (source := sources[rule.places[name]])}
    if given:
        rule.check({name: _typed(rule.fields[name], text) for name, text in given.items()})
    return {**rule.defaults, **{_column(name): text for name, text in given.items()}}


def _typed(schema: Schema, text: str) -> int | str:
    return int(text) if schema.get("type") == "integer" and re.fullmatch("-?[0-9]{1,18}", text) else text


def _column(name: str) -> str:
    return name.lower().replace("-", "_")
