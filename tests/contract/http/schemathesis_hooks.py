"""Hooks of the schemathesis run (loaded by it through SCHEMATHESIS_HOOKS): what was answered, and one more check.

Each answer is written to the file named by TOLLGATE_SEEN, a JSON object a line.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import schemathesis

SEMANTIC = {
    "conflict",
    "cursor",
    "idempotency_key",
    "items",
    "member_required",
    "missing",
    "range",
    "time",
    "too_large",
    "too_many",
    "too_precise",
    "unknown_meter",
    "unknown_plan",
    "unknown_timezone",
}
"""Codes of wrong fields that no JSON Schema can foretell: they depend on the catalogue, the clock, a size in bytes,
the digits of a number, or on the header and the body together."""
CODES_WITHOUT_FIELDS = {"quantity_too_large", "reservation_too_large", "member_required"}
_OWN_KEY = "key_" + hashlib.sha256(b"tg_test_local").hexdigest()[:16]


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case) -> bool:
    """The run must not revoke the key that it uses (it finds its id in the list of keys)."""
    return not (case.operation.method.upper() == "DELETE" and (case.path_parameters or {}).get("id") == _OWN_KEY)


@schemathesis.hook
def after_call(context: schemathesis.HookContext, case: schemathesis.Case, response: Any) -> None:
    """Remember what was answered."""
    operation = case.operation.definition.raw.get("operationId")
    phase = case.meta.phase.name.value if case.meta is not None else "none"
    same_method = response.request.method.lower() == case.operation.method.lower()
    line = {
        "operation": operation if same_method else None,
        "status": response.status_code,
        "phase": phase,
        "code": _code(response),
    }
    with open(os.environ["TOLLGATE_SEEN"], "a", encoding="utf-8") as seen:
        seen.write(json.dumps(line) + "\n")


def _code(response: Any) -> str | None:
    if "problem" not in "".join(response.headers.get("content-type", [])):
        return None
    return str(response.json()["code"])


@schemathesis.check
def what_the_schema_allows_is_understood(
    context: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """Data that fits the document is refused only for what no schema can say."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code not in (400, 422):
        return
    problem = response.json()
    codes = {field["code"] for field in problem["errors"]}
    understood = codes <= SEMANTIC if codes else problem["code"] in CODES_WITHOUT_FIELDS
    assert understood and response.status_code == 422, f"the document allows what is refused: {problem}"
