"""What a request may hold is said once, in openapi.json; here it is enforced."""

import json
import re
from pathlib import Path
from typing import Any

from flask import Flask, abort, current_app, request
from gunicorn.http.errors import ParseException
from jsonschema_rs import Draft202012Validator, ValidationError, ValidationErrorKind

from todo_api.config import Config

DOCUMENT = Path(__file__).with_name("openapi.json")
MAX_BODY = 64 * 1024  # bytes
SURROGATE = re.compile("[\ud800-\udfff]")
Schema = dict[str, Any]


class Rule:
    """What openapi.json says of a request body.

    Attributes:
        required: whether there must be one.
        fields: the schema of each field that it may set, by name.
        validator: of an object of such fields.
    """

    def __init__(self, document: Schema, body: Schema) -> None:
        schema = body["content"]["application/json"]["schema"]
        self.required: bool = body["required"]
        self.fields = _fields(document, schema)
        self.validator = Draft202012Validator({**schema, "components": document["components"]}, mask="value")

    def problems(self, fields: object) -> list[dict[str, Any]]:
        """One `{"loc", "msg", "type"}` for each bad field."""
        found = [self._problem(error) for error in self.validator.iter_errors(fields)]
        return list({tuple(problem["loc"]): problem for problem in reversed(found)}.values())

    def _problem(self, error: ValidationError) -> dict[str, Any]:
        loc, message = ["body", *error.instance_path], error.message
        match error.kind:
            case ValidationErrorKind.Required(property=name):
                loc, message = [*loc, name], "value is required"
            case ValidationErrorKind.Pattern():
                message = f"value must have {self.fields[str(loc[-1])]['x-pattern']}"
        return {"loc": loc, "msg": message, "type": error.kind.name}


def init_app(app: Flask, _: Config) -> None:
    document = json.loads(DOCUMENT.read_bytes())
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY + 1  # one more: werkzeug silently cuts a chunked body there
    operations = [operation for path in document["paths"].values() for operation in path.values() if "requestBody" in operation]
    app.extensions["contract"] = {each["operationId"]: Rule(document, each["requestBody"]) for each in operations}


def body(operation: str) -> str:
    """The JSON body of the request, reduced to the fields that openapi.json declares, as text for a statement.

    Answers 413, 415, 400 or, with every bad field, 422.
    """
    rule: Rule = current_app.extensions["contract"][operation]
    raw = _read()
    fields = _parse(raw) if raw or rule.required else {}
    if isinstance(fields, dict):
        fields = {name: _storable(fields[name]) for name in rule.fields if name in fields}
    try:
        problems = rule.problems(fields)
    except ValueError:  # nested deeper than the validator goes
        abort(400, "Body is nested too deeply")
    if problems:
        abort(422, problems)
    return json.dumps(fields, ensure_ascii=False)


def _fields(document: Schema, schema: Schema) -> dict[str, Schema]:
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    fields = dict(schema.get("properties", {}))
    for part in schema.get("allOf", ()):
        fields |= _fields(document, part)
    return fields


def _read() -> bytes:
    try:
        raw = request.get_data(cache=False)
    except (OSError, ParseException):  # the client went away, or its chunks are none
        abort(400, "Body is not complete")
    if len(raw) > MAX_BODY:
        abort(413)
    if raw and request.mimetype and not request.is_json:
        abort(415, "Content-Type must be application/json")
    return raw


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode(), parse_constant=_refuse, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        abort(400, "Body is not valid JSON")


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and Infinity are Python's own


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """RFC 7493, section 2.3: a name is not repeated; which of its values counts would be a guess."""
    if len(fields := dict(pairs)) < len(pairs):
        raise ValueError(pairs)
    return fields


def _storable(value: Any) -> Any:
    """Lone surrogates as U+0000: PostgreSQL stores neither, the validator takes only the latter, and the schemas refuse it."""
    return SURROGATE.sub("\0", value) if isinstance(value, str) and not value.isascii() else value
