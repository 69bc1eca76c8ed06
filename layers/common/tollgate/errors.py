"""Every failure that a caller can meet: one class each, one stable code, one status.

The texts tell the caller what to do. Expected failures are 4xx (or 503 `busy`) and never page anyone; anything that
is not a TollgateError is a defect.
"""

from __future__ import annotations

from typing import NamedTuple


class FieldError(NamedTuple):
    """One wrong field: `path` in dotted form (`items.0.quantity`), `code` stable."""

    path: str
    code: str


class TollgateError(Exception):
    """Base of all expected failures.

    `code` is stable and machine-readable, `status` is the HTTP status, `detail` is one sentence for people, and
    `retryable` says whether the same request can succeed later.
    """

    code = "internal"
    status = 500
    title = "Internal error"
    retryable = False

    def __init__(self, detail: str, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors


class MalformedBody(TollgateError):
    code, status, title = "malformed", 400, "Malformed request"


class Unauthorized(TollgateError):
    code, status, title = "unauthorized", 401, "Unauthorized"

    def __init__(self, detail: str = "Send a valid key as `Authorization: Bearer <key>`.") -> None:
        super().__init__(detail)


class ScopeMissing(TollgateError):
    code, status, title = "scope_missing", 403, "Forbidden"

    def __init__(self, scope: str) -> None:
        super().__init__(f"This key lacks the scope `{scope}`; use a key that has it.")


class NotFound(TollgateError):
    code, status, title = "not_found", 404, "Not found"


class NoSuchRoute(NotFound):
    code = "route_not_found"

    def __init__(self, method: str, path: str) -> None:
        super().__init__(f"No route {method} {path}; see /v1/openapi.json for what exists.")


class BadSignature(TollgateError):
    """`reason`: malformed, wrong, stale or early; for our log. The sender is not told which."""

    code, status, title = "bad_signature", 400, "Bad signature"

    def __init__(self, reason: str) -> None:
        super().__init__("The Stripe-Signature header does not fit this body and this moment.")
        self.reason = reason


class MethodNotAllowed(TollgateError):
    code, status, title = "method_not_allowed", 405, "Method not allowed"


class UnknownReservation(NotFound):
    code = "reservation_not_found"

    def __init__(self) -> None:
        super().__init__("No such reservation; use the `id` exactly as the reserve call returned it.")


class UnknownAccount(NotFound):
    code = "account_not_found"

    def __init__(self, account: str) -> None:
        super().__init__(f"No account `{account}`; create it with PUT /v1/accounts/{account}.")


class Conflict(TollgateError):
    code, status, title = "conflict", 409, "Conflict"


class IdempotencyMismatch(Conflict):
    code = "idempotency_mismatch"

    def __init__(self) -> None:
        super().__init__("This idempotency key was used with another body; use a new key for a new request.")


class AlreadyCommitted(Conflict):
    code = "already_committed"

    def __init__(self) -> None:
        super().__init__("This reservation is committed; its usage is recorded and cannot be taken back.")


class AlreadyReleased(Conflict):
    code = "already_released"

    def __init__(self) -> None:
        super().__init__("This reservation was released or has expired; reserve again, or commit what was used.")


class ResumeLinkInvalid(NotFound):
    code = "resume_link_invalid"

    def __init__(self) -> None:
        super().__init__("This is no link of ours; open the one in the message as it is, whole.")


class ResumeLinkExpired(Conflict):
    code = "resume_link_expired"

    def __init__(self) -> None:
        super().__init__("This link was for one day; resume the account with POST /v1/accounts/{id}/unfreeze.")


class AlreadyResumed(Conflict):
    code = "already_resumed"

    def __init__(self, account: str) -> None:
        super().__init__(f"`{account}` is no longer frozen by what this link was made for: it was resumed before.")


class CustomerInUse(Conflict):
    code = "customer_in_use"

    def __init__(self, customer: str) -> None:
        super().__init__(f"Stripe customer `{customer}` is mapped to another account; unmap it there first.")


class CurrencyMismatch(Conflict):
    code = "currency_mismatch"

    def __init__(self, plan: str, wanted: str, current: str) -> None:
        super().__init__(
            f"The plan `{plan}` is in {wanted}, this billing period in {current}; move with the next period "
            "(`when: period_end`).",
            (FieldError("plan", "currency_mismatch"),),
        )


class AlreadyIdentified(Conflict):
    code = "already_identified"

    def __init__(self, account: str) -> None:
        super().__init__(f"`{account}` became another account, or others became it: it cannot become this one.")


class AccountBilled(Conflict):
    code = "account_billed"

    def __init__(self, account: str) -> None:
        super().__init__(
            f"`{account}` has a Stripe customer, or usage that its plan has a price for: it pays for itself and cannot "
            "become another account."
        )


class AccountFrozen(Conflict):
    code = "account_frozen"

    def __init__(self, account: str) -> None:
        super().__init__(f"`{account}` is frozen; unfreeze it before it becomes another account.")


class TooManyIdentified(Conflict):
    code = "too_many_identified"

    def __init__(self, account: str, most: int) -> None:
        super().__init__(f"{most} accounts became `{account}`, the most there can be; begin another account.")


class TooManyGrants(Conflict):
    code = "too_many_grants"

    def __init__(self, most: int) -> None:
        super().__init__(f"{most} grants of this account are open, the most there can be; use or take back some.")


class BodyTooLarge(TollgateError):
    code, status, title = "body_too_large", 413, "Body too large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is over {limit} bytes; send less in one request.")


class UnsupportedMediaType(TollgateError):
    code, status, title = "unsupported_media_type", 415, "Unsupported media type"

    def __init__(self) -> None:
        super().__init__("Send JSON with `Content-Type: application/json`.")


class Invalid(TollgateError):
    code, status, title = "invalid", 422, "Invalid request"


class UnknownMeter(Invalid):
    code = "unknown_meter"

    def __init__(self, meter: str, path: str = "meter") -> None:
        super().__init__(
            f"No meter `{meter}` in the account's plan version; use one of the catalogue's meters.",
            (FieldError(path, "unknown_meter"),),
        )


class LevelMeter(Invalid):
    code = "level_meter"

    def __init__(self, meter: str, path: str = "meter") -> None:
        super().__init__(
            f"`{meter}` has a level, which is set: PUT /v1/accounts/{{id}}/levels/{meter}.",
            (FieldError(path, "level_meter"),),
        )


class NoLevelMeter(Invalid):
    code = "no_level_meter"

    def __init__(self, meter: str) -> None:
        super().__init__(
            f"`{meter}` has no level, its usage is added up: reserve it, or report it with POST /v1/usage.",
            (FieldError("meter", "no_level_meter"),),
        )


class UnknownLimit(Invalid):
    code = "unknown_limit"

    def __init__(self, limit: str, plan: str) -> None:
        super().__init__(
            f"The plan `{plan}` has no limit `{limit}`; override one that it has.",
            (FieldError(f"overrides.limits.{limit}", "unknown_limit"),),
        )


class UnknownPlan(Invalid):
    code = "unknown_plan"

    def __init__(self, plan: str) -> None:
        super().__init__(f"No plan `{plan}`; GET /v1/plans lists them.", (FieldError("plan", "unknown_plan"),))


class IdempotencyKeyRequired(Invalid):
    code = "idempotency_key_required"

    def __init__(self, why: str = "credits must not be given twice") -> None:
        super().__init__(f"Send an `Idempotency-Key`: {why}.", (FieldError("idempotency_key", "missing"),))


class UnknownGrant(Invalid):
    code = "unknown_grant"

    def __init__(self, source_id: str) -> None:
        super().__init__(
            f"No credits were given under `{source_id}` by this source; GET …/ledger lists what was.",
            (FieldError("refund_of", "unknown_grant"),),
        )


class MemberRequired(Invalid):
    code = "member_required"

    def __init__(self, limit: str) -> None:
        super().__init__(f"Limit `{limit}` is per member: send `member`.", (FieldError("member", "member_required"),))


class QuantityTooLarge(Invalid):
    code = "quantity_too_large"

    def __init__(self, path: str = "quantity") -> None:
        super().__init__("The quantity is too large to count exactly; send less.", (FieldError(path, "too_large"),))


class ReservationTooLarge(Invalid):
    code = "reservation_too_large"

    def __init__(self) -> None:
        super().__init__("The dimensions of this reservation are too long together; send fewer or shorter ones.")


class TooManyCounters(Invalid):
    code = "too_many_counters"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"The plan's limits count this call on more than {most} counters at once; send its items in several calls."
        )


class Busy(TollgateError):
    code, status, title, retryable = "busy", 503, "Busy", True

    def __init__(
        self,
        retry_after_seconds: int = 1,
        detail: str = "The account is very busy just now; send the same request again.",
    ) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class PlanNotForSale(Invalid):
    code = "plan_not_for_sale"

    def __init__(self, plan: str, why: str) -> None:
        super().__init__(f"The plan `{plan}` cannot be sold here: {why}.", (FieldError("plan", "plan_not_for_sale"),))


class UnknownPack(Invalid):
    code = "unknown_pack"

    def __init__(self, pack: str, plan: str) -> None:
        super().__init__(
            f"The plan `{plan}` sells no pack `{pack}`; GET /v1/plans lists its packs.",
            (FieldError("pack", "unknown_pack"),),
        )


class UnknownSubscription(Invalid):
    code = "unknown_subscription"

    def __init__(self, subscription: str) -> None:
        super().__init__(
            f"The account's Stripe customer has no subscription `{subscription}` that goes on.",
            (FieldError("subscription", "unknown_subscription"),),
        )


class PriceNotSynced(Conflict):
    code = "price_not_synced"

    def __init__(self, plan: str, part: str) -> None:
        super().__init__(f"Stripe has no price for `{part}` of the plan `{plan}`: run `tollgate stripe sync --apply`.")


class CustomerDeleted(Conflict):
    code = "customer_deleted"

    def __init__(self, account: str, customer: str) -> None:
        super().__init__(
            f"Stripe customer `{customer}` of `{account}` was deleted; clear it with PUT /v1/accounts/{account} "
            "(`stripe_customer_id: null`), and the next sale makes another."
        )


class AlreadySubscribed(Conflict):
    code = "already_subscribed"

    def __init__(self, account: str, subscription: str) -> None:
        super().__init__(
            f"`{account}` has the subscription `{subscription}`; change that one at Stripe, cancel it, or name it as "
            "`subscription` to put the plan's prices for usage onto it."
        )


class SubscriptionNotFlat(Conflict):
    code = "subscription_not_flat"

    def __init__(self, subscription: str, why: str) -> None:
        super().__init__(f"Nothing can be added to `{subscription}`: {why}.")


class StripeRefused(Conflict):
    """Stripe understood the request and said no; the same request will be refused again.

    `http_status` is Stripe's own status, `stripe_code` its code ("" where it gave none), `message` its words.
    """

    code = "stripe_refused"

    def __init__(self, http_status: int, stripe_code: str, message: str) -> None:
        super().__init__(f"Stripe refused this: {message}")
        self.http_status = http_status
        self.stripe_code = stripe_code
        self.message = message

    @property
    def missing(self) -> bool:
        """Whether the object that was asked for, or named in a parameter, does not exist."""
        return self.http_status == 404 or self.stripe_code == "resource_missing"


class StripeUnavailable(Busy):
    """Stripe gave no answer, a 5xx, or refused for now (rate limit, lock, a key it does not take just now).

    `http_status` is None where there was no answer at all. A write may have happened, unless `done_nothing`.
    """

    code, title = "stripe_unavailable", "Stripe is unavailable"

    def __init__(self, http_status: int | None, message: str, *, reason: str = "", done_nothing: bool = False) -> None:
        super().__init__(5, f"Stripe cannot do this just now ({message}); send the same request again.")
        self.http_status = http_status
        self.message = message
        self.reason = reason
        self.done_nothing = done_nothing

    @property
    def key_refused(self) -> bool:
        """Whether the key is the trouble: wrong, rotated, or without a permission that the message names."""
        return self.http_status in (401, 403)


class WrongStripeKey(StripeUnavailable):
    """The key is none, or of Stripe's other mode (`found`: None, test or live): Stripe is not asked. A function with
    such a key does not start."""

    code, title = "stripe_key_mode", "Stripe's key is of the wrong mode"

    def __init__(self, where: str, found: str | None, mode: str) -> None:
        holds = "no secret or restricted key of Stripe" if found is None else f"a {found} mode key of Stripe"
        message = f"{where} holds {holds}, but this stack takes only {mode} mode keys (sk_{mode}_… or rk_{mode}_…)"
        super().__init__(401, message, done_nothing=True)
        self.detail = f"{message}: nothing was sent. Give it one of those: `tollgate secrets set stripe --stack …`."
        self.args = (f"{self.code}: {self.detail}",)  # what a function that does not start leaves in its log


class UnknownInvoice(NotFound):
    code = "invoice_not_found"

    def __init__(self, invoice: str) -> None:
        super().__init__(f"No invoice `{invoice}` of this account.")


class InvoiceTooLarge(TollgateError):
    code, status, title = "invoice_too_large", 422, "Too large to be audited at once"

    def __init__(self, most: int) -> None:
        super().__init__(f"More than {most} events are behind this invoice; list them with GET …/events day by day.")
