"""Hooks for rules that openapi.json cannot express. schemathesis loads this file into its own process."""

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
    """Return whether to keep the failure. Drop those that openapi.json explains only in descriptions."""
    if isinstance(failure, AcceptedNegativeData):
        # A null body counts as no body. The schema cannot say so, because openapi-python-client cannot read such a schema.
        return not (case.operation.path.endswith("/complete") and case.body is None)
    if not isinstance(failure, RejectedPositiveData):
        return True
    sent = response.request.headers
    if response.status_code == 412:
        return "If-Match" not in sent  # a schema cannot express a task's current version
    problems: list[dict[str, Any]] = response.json()["detail"] if response.status_code == 422 else []
    if [problem["type"] for problem in problems] == ["idempotency"]:
        return "Idempotency-Key" not in sent  # a schema cannot express which keys are in use
    # `after` only works with one value of `sort`. OpenAPI cannot express rules for two parameters together.
    return not ("sort" in case.query and [(each["loc"], each["type"]) for each in problems] == [(["query", "after"], "not")])


@schemathesis.check
def announced(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """Assert that an error status without its own entry is among the examples of the `default` response."""
    method = case.operation.method
    responses = DOCUMENT["paths"][case.operation.path][method]["responses"]
    if str(response.status_code) not in responses and response.request.method == method.upper():
        default = DOCUMENT["components"]["responses"][responses["default"]["$ref"].rpartition("/")[2]]
        assert str(response.status_code) in default["content"]["application/json"]["examples"], "Not announced"


if REFUSAL:

    @schemathesis.check
    def refused(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
        """Assert that every task operation returns the status REFUSAL, even if the request has other errors."""
        template, method = case.operation.path, case.operation.method.upper()
        path = unquote(urlsplit(response.request.url or "").path)
        own = re.sub(r"{\w+}", "[^/]+", template)  # a user_id with a slash would be another path
        if template.startswith("/api/") and response.request.method == method and re.fullmatch(own, path):
            expected = REFUSAL if "Authorization" in response.request.headers else 401  # schemathesis sometimes omits it
            assert response.status_code == expected, f"Expected {expected}, got {response.status_code}"

else:

    @schemathesis.hook
    def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
        """Replace an empty If-Match. It always causes a 412, and schemathesis sends it so often that deletes rarely succeed."""
        if case.headers and case.headers.get("If-Match") == "":
            case.headers["If-Match"] = "*"
