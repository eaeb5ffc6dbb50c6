"""Entity tags (RFC 9110, sections 8.8.3 and 13.1).

The ETag of a list is a hash of its JSON, made by werkzeug. The ETag of a task consists of a fingerprint of the Task schema and of
the task's version in the database. So the ETags of lists and of tasks also change when a release changes the JSON.
"""

import hashlib
import json
from datetime import UTC, datetime, timedelta

from flask import Response, request

from todo_api.validation import DOCUMENT


def fingerprint(schema: object) -> str:
    """Return eight hexadecimal digits that depend on the whole schema."""
    return hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()[:8]


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TASK_FINGERPRINT = fingerprint(json.loads(DOCUMENT.read_bytes())["components"]["schemas"]["Task"])


def task_etag(version: object) -> str:
    """Return the ETag of a task. Its version is its `updated_at` in microseconds since 1970."""
    return f'"{TASK_FINGERPRINT}-{version}"'


def if_match() -> str:
    """Return the versions that the client expects, separated by commas, or "*" for any.

    Besides an ETag, the header may hold the `updated_at` of a task as a tag. Weak tags match nothing.
    """
    if "If-Match" not in request.headers or request.if_match.star_tag:
        return "*"
    versions = []
    for tag in filter(None, request.if_match.as_set()):  # werkzeug has None for the empty tag
        prefix, _, version = tag.partition("-")
        if prefix == TASK_FINGERPRINT and version.isdecimal():
            versions.append(version)
        elif microseconds := _microseconds(tag):
            versions.append(str(microseconds))
    return ",".join(versions)


def conditional(response: Response) -> Response:
    """Let the client keep the response and revalidate it; 304 if its tag is still current."""
    response.headers["Cache-Control"] = "private, no-cache"
    if "If-None-Match" in request.headers and request.if_none_match.contains_weak(str(response.get_etag()[0])):
        response.status_code = 304  # werkzeug then leaves out the body and the headers that describe it
    return response


def _microseconds(time: str) -> int | None:
    try:
        return (datetime.fromisoformat(time) - EPOCH) // timedelta(microseconds=1)
    except (ValueError, TypeError):  # not a time, or a time without an offset
        return None
