"""Tells schemathesis, which loads this file into its own process, what openapi.json cannot say."""

import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.openapi.checks import RejectedPositiveData

DOCUMENT: dict[str, Any] = json.loads((Path(__file__).parents[2] / "todo_api" / "openapi.json").read_bytes())
REFUSAL = int(os.environ.get("REFUSAL", "0"))


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Drop the failures that the document describes in words only."""
    if isinstance(failure, AcceptedNegativeData):
        # A null body counts as no body. The schema does not say so, because openapi-python-client cannot read such a schema.
        return not (case.operation.path.endswith("/complete") and case.body is None)
    if not isinstance(failure, RejectedPositiveData):
        return True
    sent = response.request.headers
    if response.status_code == 412:
        return "If-Match" not in sent  # no schema knows which version a task has
    problems: list[dict[str, Any]] = response.json()["detail"] if response.status_code == 422 else []
    if [problem["type"] for problem in problems] == ["idempotency"]:
        return "Idempotency-Key" not in sent  # no schema knows which keys were used before
    # OpenAPI has no schema for two parameters together: `after` works with one `sort` only.
    return not ("sort" in case.query and [(each["loc"], each["type"]) for each in problems] == [(["query", "after"], "not")])


@schemathesis.check
def announced(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """An error status without an entry of its own is one of the examples of the `default` response."""
    method = case.operation.method
    responses = DOCUMENT["paths"][case.operation.path][method]["responses"]
    if str(response.status_code) not in responses and response.request.method == method.upper():
        default = DOCUMENT["components"]["responses"][responses["default"]["$ref"].rpartition("/")[2]]
        assert str(response.status_code) in default["content"]["application/json"]["examples"], "Not announced"


if REFUSAL:

    @schemathesis.check
    def refused(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
        """Every task operation answers REFUSAL, whatever else may be wrong with the request."""
        template, method = case.operation.path, case.operation.method.upper()
        path = unquote(urlsplit(response.request.url or "").path)
        own = re.sub(r"{\w+}", "[^/]+", template)  # a user_id with a slash in it makes another path
        if template.startswith("/api/") and response.request.method == method and re.fullmatch(own, path):
            expected = REFUSAL if "Authorization" in response.request.headers else 401  # schemathesis leaves it out at times
            assert response.status_code == expected, f"Expected {expected}, got {response.status_code}"

else:

    @schemathesis.hook
    def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
        """Replace an empty If-Match, which is always a 412: schemathesis prefers it, and would hardly ever delete a task."""
        if case.headers and case.headers.get("If-Match") == "":
            case.headers["If-Match"] = "*"
