"""Reads the JSON body of a request, more strictly than Python's json does."""

import codecs
import json
import re
from typing import Any

from flask import abort, request

MAX_BYTES = 64 * 1024
SURROGATE = re.compile("[\ud800-\udfff]")


def read() -> bytes:
    """Return the raw body, empty if there is none. Aborts with 400, 413 or 415."""
    length = request.content_length or 0
    chunked = not length and "Transfer-Encoding" in request.headers
    if length > MAX_BYTES:
        abort(413)
    if not length and not chunked:
        return b""
    try:
        # Not from `request.stream`, which takes three times as long. A chunked body is read up to twice the limit: if a part
        # stays unread, the connection is reset, and the client may lose the 413. gunicorn skips the rest of a body with a length.
        raw = request.input_stream.read(length or 2 * MAX_BYTES)
    except Exception:  # WSGI does not define what a broken body raises; gunicorn raises exceptions of its own
        abort(400, "Body is incomplete")
    if len(raw) > MAX_BYTES:
        abort(413)
    if raw and not request.is_json and request.mimetype:
        abort(415, "Content-Type must be application/json")
    if len(raw) < length:
        abort(400, "Body is incomplete")
    return raw


def parse(raw: bytes) -> Any:
    """Return the value of strict JSON (RFC 8259). Aborts with 400."""
    if not raw.strip():
        abort(400, "Body is empty, but must be a JSON object")
    if raw.startswith(codecs.BOM_UTF8):
        abort(400, "Body must not begin with a byte order mark (BOM)")
    try:
        value = DECODER.decode(raw.decode())
        return _replace_surrogates(value) if b"\\ud" in raw.lower() else value
    except UnicodeDecodeError:
        abort(400, "Body must be UTF-8")
    except ValueError:
        abort(400, "Body is not valid JSON")
    except RecursionError:
        abort(400, "Body is nested too deeply")


def _replace_surrogates(value: Any) -> Any:
    """Replace each lone surrogate by U+0000, which the schemas reject with a 422. The validator cannot read a lone surrogate."""
    return json.loads(SURROGATE.sub(r"\\u0000", ENCODER.encode(value)))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Abort if a name occurs twice (RFC 7493, section 2.3): choosing one of the values would be a guess."""
    if len(fields := dict(pairs)) < len(pairs):
        abort(400, "Body has the same name twice")
    return fields


ENCODER = json.JSONEncoder(ensure_ascii=False)
DECODER = json.JSONDecoder(parse_constant=lambda name: abort(400, f"Body must not have {name}"), object_pairs_hook=_object)
