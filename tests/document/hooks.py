"""What openapi.json cannot tell schemathesis, which loads this file into its own process."""

import os
import re
from typing import Any
from urllib.parse import unquote, urlsplit

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response
from schemathesis.core.failures import Failure
from schemathesis.openapi.checks import RejectedPositiveData

REFUSAL = int(os.environ.get("REFUSAL", "0"))


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Of the refusals of valid requests, those stay that the document does not announce in words."""
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
