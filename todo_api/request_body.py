"""The JSON body of a request, read more strictly than Python's json does."""

import json
import re
from typing import Any

from flask import abort, request
from gunicorn.http.errors import ParseException

MAX_BYTES = 64 * 1024
INCOMPLETE = "Body is not complete"
SURROGATE = re.compile("[\ud800-\udfff]")


def read() -> bytes:
    """The bytes, none when there is no body. Answers 400, 413 or 415."""
    if request.environ.keys().isdisjoint(("CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING")):
        return b""
    try:
        raw = request.get_data(cache=False)
    except (OSError, ParseException):  # the client went away, or its chunks are none
        abort(400, INCOMPLETE)
    if len(raw) > MAX_BYTES:
        abort(413)
    if raw and not request.is_json and request.mimetype:
        abort(415, "Content-Type must be application/json")
    if len(raw) < int(request.environ.get("CONTENT_LENGTH") or 0):
        abort(400, INCOMPLETE)
    return raw


def parse(raw: bytes) -> Any:
    """The value. Answers 400 when it is no JSON (RFC 8259), or no text.

    Lone surrogates come as U+0000: PostgreSQL stores neither, the validator takes only the latter, and the schemas refuse it.
    """
    try:
        value = DECODER.decode(raw.decode())
        return json.loads(SURROGATE.sub(r"\\u0000", ENCODER.encode(value))) if b"\\u" in raw else value
    except (ValueError, RecursionError):
        abort(400, "Body is not valid JSON")


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and Infinity are Python's own


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """RFC 7493, section 2.3: a name is not repeated; which of its values counts would be a guess."""
    if len(fields := dict(pairs)) < len(pairs):
        raise ValueError(pairs)
    return fields


ENCODER = json.JSONEncoder(ensure_ascii=False)
DECODER = json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=_unique)
