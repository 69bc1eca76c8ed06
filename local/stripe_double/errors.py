"""Refusals in Stripe's error shape: `{"error": {"type", "message", "code"?, "param"?, ...}}` [SDK: ErrorObject]."""

from __future__ import annotations

from collections.abc import Mapping

from local.stripe_double.wire import Answer, JsonObject, to_json


class ApiError(Exception):
    """A refusal. `saved=False`: no endpoint began to execute, so an Idempotency-Key stays unused
    ([docs] idempotent requests: failed validation and conflicts save no result)."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        saved: bool = True,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = dict(headers or {})
        self.saved = saved

    def answer(self) -> Answer:
        """The refusal as an HTTP answer. Absent `code` and `param` are left out, as Stripe does."""
        error: JsonObject = {"message": self.message, "type": self.kind}
        if self.code is not None:
            error["code"] = self.code
            error["doc_url"] = f"https://stripe.com/docs/error-codes/{self.code.replace('_', '-')}"
        if self.param is not None:
            error["param"] = self.param
        return Answer(self.status, to_json({"error": error}).encode(), self.headers, self.saved)


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """400: a parameter's value or form is wrong; nothing was executed."""
    return ApiError(400, message, param=param, code=code, saved=False)


def missing_resource(noun: str, resource_id: str, param: str = "id", status: int = 404) -> ApiError:
    """`No such customer: 'cus_1'`: 404 for an id in the path, 400 for one in a parameter [observed]."""
    return ApiError(status, f"No such {noun}: '{resource_id}'", code="resource_missing", param=param)


def not_emulated(message: str, status: int = 404, param: str | None = None) -> ApiError:
    """What Stripe may know but this double does not; never a guess at an answer."""
    return ApiError(status, message, code="not_emulated", param=param, saved=False)


def rate_limited(reason: str) -> ApiError:
    """429 with the reason header, without Retry-After; the SDK never retries a plain 429 [docs: rate limits; SDK]."""
    return ApiError(
        429,
        "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.",
        code="rate_limit",
        headers={"Stripe-Rate-Limited-Reason": reason},
        saved=False,
    )


def server_error() -> ApiError:
    """500 `api_error`. Saved under the Idempotency-Key: a replay is a 500 again ([docs] idempotent requests)."""
    return ApiError(500, "An unknown error occurred", kind="api_error")
