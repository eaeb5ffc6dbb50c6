"""Validates requests against openapi.json, with messages for end users."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask, abort, current_app, request
from jsonschema_rs import Draft202012Validator, ValidationError, ValidationErrorKind, dereference

from todo_api import request_body
from todo_api.config import Config

DOCUMENT = Path(__file__).with_name("openapi.json")
TYPES = {"string": "text", "integer": "a whole number", "boolean": "true or false", "object": "a JSON object", "array": "a list"}
Schema = dict[str, Any]


@dataclass
class RequestSchema:
    """What openapi.json declares for an operation's body, or for its query parameters and headers.

    Attributes:
        schema: a JSON Schema for all values together.
        locations: `query` or `header` for each parameter; empty for a body.
        required: whether the request must have a body.
    """

    schema: Schema
    locations: dict[str, str]
    required: bool = False

    def __post_init__(self) -> None:
        self.fields: dict[str, Schema] = self.schema["properties"]
        self.integers = [name for name, field in self.fields.items() if "integer" in field["type"]]
        self.validator = Draft202012Validator(self.schema)

    def check(self, values: Any) -> None:
        """Abort with 422 and one `{"loc", "msg", "type"}` for each invalid field, in the document's order."""
        if self.validator.is_valid(values):
            return
        problems: dict[str, dict[str, Any]] = {}
        for error in self.validator.iter_errors(values):
            problem = self._problem(error)
            problems.setdefault(str(problem["loc"]), problem)
        order = {name: position for position, name in enumerate(self.fields)}
        abort(422, sorted(problems.values(), key=lambda problem: order.get(problem["loc"][-1], -1)))

    def _problem(self, error: ValidationError) -> dict[str, Any]:
        schema: Any = self.schema
        for step in error.schema_path[:-1]:
            schema = schema[step]
        path = [*error.instance_path, *([error.kind.property] if isinstance(error.kind, ValidationErrorKind.Required) else [])]
        location = self.locations.get(str(path[0]), "body") if path else "body"
        return {"loc": [location, *path], "msg": message(error.kind.name, schema), "type": error.kind.name}


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
        declared = [each for each in operation.get("parameters", ()) if each["in"] in ("query", "header")]
        schema = {
            "properties": {each["name"]: each["schema"] for each in declared},
            "required": [each["name"] for each in declared if each.get("required")],
            **operation.get("x-parameters", {}),
        }
        app.extensions["parameters"][name] = RequestSchema(schema, {each["name"]: each["in"] for each in declared})


def body(operation: str) -> str:
    """Return the fields of the JSON body that openapi.json declares, as JSON for a statement.

    Aborts with 400, 413, 415 or 422. Without a body, if none is required, returns `{}`.
    """
    schema: RequestSchema = current_app.extensions["bodies"][operation]
    raw = request_body.read()
    sent: Any = request_body.parse(raw) if raw or schema.required else None
    if sent is None and not schema.required:
        return "{}"
    fields: Any = {name: sent[name] for name in schema.fields if name in sent} if isinstance(sent, dict) else sent
    try:
        schema.check(fields)
    except ValueError:  # the validator's own limit
        abort(400, request_body.TOO_DEEP)
    # 1.0 is an integer in JSON Schema, but not in SQL.
    whole = {name: int(fields[name]) for name in schema.integers if isinstance(fields.get(name), float)}
    unchanged = len(fields) == len(sent) and not whole
    return raw.decode() if unchanged else request_body.ENCODER.encode({**fields, **whole})


def parameters(operation: str) -> dict[str, str]:
    """Return the query parameters and headers that openapi.json declares, as text for a statement. Aborts with 422.

    An absent parameter has its default or "", and so has an empty query parameter. `Idempotency-Key` becomes `idempotency_key`.
    `x-aliases` in a schema lists other spellings of its values.
    """
    schema: RequestSchema = current_app.extensions["parameters"][operation]
    query = {name: text for name, text in request.args.to_dict().items() if text}
    given = {}
    for name, location in schema.locations.items():
        text = (query if location == "query" else request.headers).get(name)
        if text is not None:
            given[name] = schema.fields[name].get("x-aliases", {}).get(text, text)
    schema.check({name: _typed(text, schema.fields[name]) for name, text in given.items()})
    texts = {name: given.get(name, str(field.get("default", ""))) for name, field in schema.fields.items()}
    return {name.lower().replace("-", "_"): text for name, text in texts.items()}


def _typed(text: str, schema: Schema) -> int | str:
    return int(text) if schema["type"] == "integer" and re.fullmatch("-?[0-9]{1,18}", text) else text
