"""Validates requests against openapi.json, with messages for end users."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask, abort, current_app, request
from jsonschema_rs import Draft202012Validator, ValidationErrorKind, dereference

from todo_api import request_body
from todo_api.config import Config

DOCUMENT = Path(__file__).with_name("openapi.json")
TYPES = {"string": "text", "integer": "a whole number", "boolean": "true or false", "object": "a JSON object", "array": "a list"}
INTEGER = re.compile("-?[0-9]{1,18}")
Schema = dict[str, Any]


@dataclass
class RequestSchema:
    """The part of openapi.json that describes an operation's body, or all its query parameters and headers."""

    schema: Schema
    locations: dict[str, str]  # `query` or `header` for each parameter
    required: bool = False  # whether there must be a body

    def __post_init__(self) -> None:
        self.fields: dict[str, Schema] = self.schema["properties"]
        self.integers = [name for name, field in self.fields.items() if "integer" in field["type"]]
        self.defaults = {_column(name): str(field.get("default", "")) for name, field in self.fields.items()}
        self.validator = Draft202012Validator(self.schema)

    def check(self, values: Any) -> None:
        """Abort with 422 and one `{"loc", "msg", "type"}` for each invalid field, in the document's order."""
        if self.validator.is_valid(values):
            return
        problems: dict[str, dict[str, Any]] = {}
        for error in self.validator.iter_errors(values):
            schema: Any = self.schema
            for step in error.schema_path[:-1]:
                schema = schema[step]
            missing = [error.kind.property] if isinstance(error.kind, ValidationErrorKind.Required) else []
            path = [*error.instance_path, *missing]
            loc = [self.locations.get(str(path[0]), "body") if path else "body", *path]
            problem = {"loc": loc, "msg": message(error.kind.name, schema), "type": error.kind.name}
            problems.setdefault(str(path[0]) if path else "", problem)
        abort(422, [problems[name] for name in ("", *self.fields) if name in problems])


def message(keyword: str, schema: Schema) -> str:
    """Say for end users what the schema expects. `x-pattern` in the schema is the message of its `pattern`, and so on."""
    text = "is not valid"
    match keyword, schema:
        case "required", _:
            text = "is required"
        case "minLength", {"minLength": limit}:
            text = "must not be empty" if limit == 1 else f"must be at least {limit} characters"
        case "maxLength", {"maxLength": limit}:
            text = f"must be at most {limit} characters"
        case "enum", {"enum": options}:
            text = f"must be one of {', '.join(options)}"
        case "type" | "minimum" | "maximum", {"type": [name, *_] | name}:
            limits = [f" {word} {schema[limit]}" for word, limit in (("from", "minimum"), ("to", "maximum")) if limit in schema]
            text = f"must be {TYPES[name]}{''.join(limits)}"
    return str(schema.get(f"x-{keyword}", text))


def init_app(app: Flask, _: Config) -> None:
    document = dereference(json.loads(DOCUMENT.read_bytes()))
    app.config["MAX_CONTENT_LENGTH"] = request_body.MAX_BYTES + 1  # werkzeug silently cuts a chunked body at this length
    app.extensions["bodies"], app.extensions["parameters"] = {}, {}
    for operation in (operation for path in document["paths"].values() for operation in path.values()):
        name = operation["operationId"]
        if body := operation.get("requestBody"):
            schema = body["content"]["application/json"]["schema"]
            app.extensions["bodies"][name] = RequestSchema(schema, {}, body.get("required", False))
        declared = {each["name"]: each for each in operation.get("parameters", ()) if each["in"] != "path"}
        schema = {
            "properties": {name: each["schema"] for name, each in declared.items()},
            "required": [name for name, each in declared.items() if each.get("required")],
            **operation.get("x-parameters", {}),
        }
        app.extensions["parameters"][name] = RequestSchema(schema, {name: each["in"] for name, each in declared.items()})


def body(operation: str) -> str:
    """Return the declared fields of the JSON body, as JSON for a statement. Aborts with 400, 413, 415 or 422."""
    schema: RequestSchema = current_app.extensions["bodies"][operation]
    raw = request_body.read()
    sent: Any = request_body.parse(raw) if raw or schema.required else None
    if sent is None and not schema.required:
        return "{}"
    fields: Any = {name: sent[name] for name in schema.fields if name in sent} if isinstance(sent, dict) else sent
    try:
        schema.check(fields)
    except ValueError:
        abort(400, "Body is nested too deeply")
    # 1.0 is an integer in JSON Schema, but not in SQL.
    whole = {name: int(fields[name]) for name in schema.integers if isinstance(fields.get(name), float)}
    unchanged = len(fields) == len(sent) and not whole
    return raw.decode() if unchanged else request_body.ENCODER.encode({**fields, **whole})


def parameters(operation: str) -> dict[str, str]:
    """Return the declared query parameters and headers, as text for a statement. Aborts with 422.

    An absent or empty query parameter has its default or "". `x-aliases` in a schema lists other spellings of values.
    """
    schema: RequestSchema = current_app.extensions["parameters"][operation]
    query = request.args.to_dict()
    given = {}
    for name, location in schema.locations.items():
        text = request.headers.get(name) if location == "header" else query.get(name) or None
        if text is not None:
            given[name] = schema.fields[name].get("x-aliases", {}).get(text, text)
    integers = {name: int(text) for name, text in given.items() if name in schema.integers and INTEGER.fullmatch(text)}
    schema.check({**given, **integers})
    return {**schema.defaults, **{_column(name): text for name, text in given.items()}}


def _column(name: str) -> str:
    return name.lower().replace("-", "_")
