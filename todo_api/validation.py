"""Validates requests against openapi.json, with messages for end users."""

import json
import re
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from flask import Flask, abort, current_app, request
from jsonschema_rs import Draft202012Validator, ValidationErrorKind

from todo_api import request_body
from todo_api.config import Config

DOCUMENT = Path(__file__).with_name("openapi.json")
TYPES = {"string": "text", "integer": "a whole number", "boolean": "true or false", "object": "a JSON object", "array": "a list"}


@dataclass
class RequestSchema:
    """The JSON Schema of an operation's body, or of all its query parameters and headers."""

    schema: Any
    locations: dict[str, str]  # `query` or `header` for each parameter
    required: bool = False  # whether there must be a body

    def __post_init__(self) -> None:
        self.fields: dict[str, Any] = self.schema["properties"]
        self.defaults = {_argument(name): str(field.get("default", "")) for name, field in self.fields.items()}
        self.validator = Draft202012Validator(self.schema, validate_formats=True)

    def check(self, values: Any) -> None:
        """Abort with 422 and one `{"loc", "msg", "type"}` for each invalid field, in the document's order."""
        if self.validator.is_valid(values):
            return
        problems: dict[str, dict[str, Any]] = {}
        for error in self.validator.iter_errors(values):
            path = list(error.instance_path)
            if isinstance(error.kind, ValidationErrorKind.Required):
                path.append(error.kind.property)
            field = str(path[0]) if path else ""  # "": the whole body
            if field not in problems:
                schema = reduce(getitem, error.schema_path[:-1], self.schema)  # the part that contains the keyword
                loc = [self.locations.get(field, "body"), *path]
                problems[field] = {"loc": loc, "msg": user_message(error.kind.name, schema), "type": error.kind.name}
        abort(422, [problems[field] for field in ("", *self.fields) if field in problems])


def user_message(keyword: str, schema: dict[str, Any]) -> str:
    """Return a message for end users. A schema may have its own: `x-pattern` is the message for `pattern`."""
    text = "is not valid"
    value: Any = schema.get(keyword)
    match keyword:
        case "required":
            text = "is required"
        case "minLength":
            text = "must not be empty" if value == 1 else f"must be at least {value} characters"
        case "maxLength":
            text = f"must be at most {value} characters"
        case "format":
            text = f"must be a valid {value}"
        case "enum":
            text = f"must be one of {', '.join(str(option) for option in value if option is not None)}"
        case "type" | "minimum" | "maximum" if kind := schema.get("type"):
            name = kind[0] if isinstance(kind, list) else kind
            limits = [f" {word} {schema[limit]}" for word, limit in (("from", "minimum"), ("to", "maximum")) if limit in schema]
            text = f"must be {TYPES.get(name, f'a {name}')}{''.join(limits)}"
    return str(schema.get(f"x-{keyword}", text))


def init_app(app: Flask, _: Config) -> None:
    document = json.loads(DOCUMENT.read_bytes())
    app.extensions["bodies"], app.extensions["parameters"] = {}, {}
    for path in _resolve(document, document)["paths"].values():
        for operation in path.values():
            name = operation["operationId"]
            if body := operation.get("requestBody"):
                schema = body["content"]["application/json"]["schema"]
                app.extensions["bodies"][name] = RequestSchema(schema, {}, body.get("required", False))
            declared = [each for each in operation.get("parameters", ()) if each["in"] != "path"]
            schema = {
                "properties": {each["name"]: each["schema"] for each in declared},
                "required": [each["name"] for each in declared if each.get("required")],
                # JSON Schema for rules between parameters, for example that `after` needs `sort=created_at`.
                **operation.get("x-parameters", {}),
            }
            app.extensions["parameters"][name] = RequestSchema(schema, {each["name"]: each["in"] for each in declared})


def _resolve(node: Any, document: Any) -> Any:
    """Replace each `$ref` by its target. Not with jsonschema_rs.dereference, which sorts the fields."""
    if isinstance(node, list):
        return [_resolve(item, document) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _resolve(reduce(getitem, node["$ref"].split("/")[1:], document), document)
    return {name: _resolve(value, document) for name, value in node.items()}


def read_body(operation: str) -> str:
    """Return the declared fields of the JSON body, as JSON for a statement. Aborts with 400, 413, 415 or 422."""
    schema: RequestSchema = current_app.extensions["bodies"][operation]
    raw = request_body.read()
    sent: Any = request_body.parse(raw) if raw or schema.required else None
    if sent is None and not schema.required:
        return "{}"
    values: Any = {name: sent[name] for name in schema.fields if name in sent} if isinstance(sent, dict) else sent
    try:
        schema.check(values)
    except ValueError:
        abort(400, "Body is nested too deeply")
    # 1.0 is an integer in JSON Schema, but not in SQL.
    whole = {name: int(value) for name, value in values.items() if isinstance(value, float) and value.is_integer()}
    return request_body.ENCODER.encode({**values, **whole})


def read_parameters(operation: str) -> dict[str, str]:
    """Return the declared query parameters and headers, as text for a statement. Aborts with 422.

    An absent parameter gets its default, or "" if it has none. An empty query parameter counts as absent, but an empty header is
    checked as it is. `x-aliases` in a schema lists other spellings of values.
    """
    schema: RequestSchema = current_app.extensions["parameters"][operation]
    query = request.args if request.query_string else {}  # an empty string need not be parsed
    texts, values = {}, {}
    for name, field in schema.fields.items():
        in_header = schema.locations[name] == "header"
        text = request.headers.get(name) if in_header else (query.get(name) or None)
        if text is not None:
            text = field.get("x-aliases", {}).get(text, text)
            values[name] = int(text) if field["type"] == "integer" and re.fullmatch("-?[0-9]{1,18}", text) else text
            texts[_argument(name)] = text
    schema.check(values)
    return schema.defaults | texts


def _argument(name: str) -> str:
    return name.lower().replace("-", "_")
