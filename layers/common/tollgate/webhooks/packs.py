"""Packs of credits: given once paid, taken back as money goes back (refunds, disputes), given again where it returns.

Whatever event made us look, the payment is fetched and everything that it means is brought about: each part of that
happens once, under a source id made of Stripe's own ids. So neither order nor repetition matters, and a crash anywhere
leaves parts that the next look does.

| source id of the ledger | is |
| --- | --- |
| `pi_…` | what the payment bought |
| `re_…`, `du_…` | a clawback, for a refund or a dispute |
| `re_…:returned`, `du_…:returned` | given again: the refund failed, the dispute was won |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from typing import Final, NamedTuple, Protocol

from tollgate.accounts.rules import Rules
from tollgate.accounts.service import AccountDeps
from tollgate.alerts.outbox import Alert, Outbox
from tollgate.catalog.model import Pack
from tollgate.errors import Busy, UnknownAccount, UnknownPack
from tollgate.gate.grants import claw_back, give, put_on_gate
from tollgate.quantities import EXACT, ZERO, plain
from tollgate.subscriptions.state import ACCOUNT
from tollgate.sync.objects import PLAN, STACK, VERSION
from tollgate.usage.grant import FOREVER, Clawback, GrantRow, Pending

SOURCE: Final = "stripe"
PACK: Final = "tollgate_pack"
_LOOKS: Final = 5
_DAY: Final = 86_400
_TAKEN: Final = frozenset({"needs_response", "under_review", "lost"})
"""Disputes whose money is gone. An inquiry (`warning_…`) has taken nothing yet."""
_WON: Final = frozenset({"won", "warning_closed", "prevented"})
_REFUNDED: Final = frozenset({"pending", "succeeded", "requires_action"})
_NOT_REFUNDED: Final = frozenset({"failed", "canceled"})


class MoneyBack(NamedTuple):
    """A refund or a dispute. `amount`: minor units."""

    id: str
    amount: int
    status: str


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment as Stripe has it now. Amounts in minor units, times in epoch seconds."""

    id: str
    customer: str | None
    received: int
    """What was paid; 0 while it is not."""
    created: int
    metadata: Mapping[str, str]
    refunds: tuple[MoneyBack, ...] = ()
    disputes: tuple[MoneyBack, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckoutSession:
    """A finished visit to Stripe's page."""

    id: str
    customer: str | None
    payment: str | None
    """The payment intent of one that sold something once; None for a subscription."""
    paid: bool
    metadata: Mapping[str, str]


class StripePayments(Protocol):
    def payment(self, payment: str) -> Payment: ...
    def session(self, session: str) -> CheckoutSession: ...


@dataclass(frozen=True, slots=True)
class PackDeps:
    accounts: AccountDeps
    stripe: StripePayments
    outbox: Outbox
    stack: str


def settle(deps: PackDeps, payment_id: str, sold: Mapping[str, str] | None = None) -> str | None:
    """Bring an account's credits to what a payment means now; returns the account, None where the payment is none of
    ours. `sold`: the metadata of the session that it was made in, which may say more than the payment's own.

    Raises UnknownPack, UnknownAccount, UnknownPlan, UnknownMeter, TooManyGrants, Busy, and what Stripe's calls raise.
    """
    payment = deps.stripe.payment(payment_id)
    for _ in range(_LOOKS):
        account = _bring_about(deps, payment, {**payment.metadata, **(sold or {})})
        if account is None:
            return None
        # A refund that failed, or a dispute that was won, while an older look was still being brought about.
        again = deps.stripe.payment(payment_id)
        if again == payment:
            return account
        payment = again
    raise Busy


def _bring_about(deps: PackDeps, payment: Payment, metadata: Mapping[str, str]) -> str | None:
    ours = metadata.get(STACK) == deps.stack
    account = metadata.get(ACCOUNT) if ours else None
    if account is None and payment.customer is not None:
        account = deps.accounts.accounts.holder(payment.customer)
    if account is None:
        return None
    row = deps.accounts.rules.row(account)
    if row is None:
        raise UnknownAccount(account)
    rules = deps.accounts.rules.compiled(row)
    bought = _given(deps, rules, payment.id)
    if bought is not None:
        _finished(deps, rules, bought)
    else:
        if not (ours and PACK in metadata and payment.received):
            return None
        bought, _ = give(deps.accounts.gate, rules, _grant(deps, rules, payment, metadata))
    backs = [
        *((refund, refund.status in _REFUNDED, refund.status in _NOT_REFUNDED) for refund in payment.refunds),
        *((dispute, dispute.status in _TAKEN, dispute.status in _WON) for dispute in payment.disputes),
    ]
    # What was given again first: a refund or dispute still in force takes its part of that.
    for back, _, returned in backs:
        if returned:
            _give_again(deps, rules, bought, back)
    family = _family(deps, rules, bought, payment)
    owed = taken = ZERO
    for back, gone, _ in backs:
        if gone:
            wanted = _units(rules, payment, bought, back)
            taken += _take_back(deps, rules, family, back, wanted)
            owed += wanted
    _short(deps, rules.account, bought, min(owed, bought.units) - taken)
    return rules.account


def _given(deps: PackDeps, rules: Rules, source_id: str) -> GrantRow | None:
    return next(
        (
            found
            for home in rules.homes
            if (found := deps.accounts.gate.grants.by_source(home, SOURCE, source_id)) is not None
        ),
        None,
    )


def _grant(deps: PackDeps, rules: Rules, payment: Payment, metadata: Mapping[str, str]) -> GrantRow:
    pack = _pack(deps, metadata)
    ends = FOREVER if pack.expires_days is None else payment.created + pack.expires_days * _DAY
    # Everything but `created_ms` is made of the payment and the plan version, neither of which changes: a repeat is the
    # same gift.
    return GrantRow(
        account=rules.account,
        number=0,
        meter=pack.meter,
        units=pack.units,
        source=SOURCE,
        source_id=payment.id,
        priority=pack.priority,
        starts=payment.created,
        ends=ends,
        created_ms=deps.accounts.gate.clock(),
        reason=f"pack {pack.id}",
    )


def _pack(deps: PackDeps, metadata: Mapping[str, str]) -> Pack:
    wanted, plan, version = metadata[PACK], metadata.get(PLAN, ""), metadata.get(VERSION, "")
    if version.isascii() and version.isdecimal():
        packs = deps.accounts.catalog.version(plan, int(version)).plan.packs
        for pack in packs:
            if pack.id == wanted:
                return pack
    raise UnknownPack(wanted, plan)


def _finished(deps: PackDeps, rules: Rules, bought: GrantRow) -> None:
    """Finish what a crash left of a payment's grants: rows whose grant is not on the gate, and clawbacks under way."""
    for row in (bought, *(row for row in deps.accounts.gate.grants.rows(bought.account) if _is_again(row))):
        put_on_gate(deps.accounts.gate, rules, row)
        if row.pending is not None:
            claw_back(deps.accounts.gate, rules, row.meter, (row.source, row.source_id), row.pending)


def _family(deps: PackDeps, rules: Rules, bought: GrantRow, payment: Payment) -> list[GrantRow]:
    """The grants that hold what a payment bought: the first one, and what was given again."""
    again = [_given(deps, rules, _again(back)) for back in (*payment.refunds, *payment.disputes)]
    return [bought, *(row for row in again if row is not None)]


def _again(back: MoneyBack) -> str:
    return f"{back.id}:returned"


def _take_back(deps: PackDeps, rules: Rules, family: list[GrantRow], back: MoneyBack, wanted: Decimal) -> Decimal:
    """Take back what a refund or dispute is for, from one grant after the other; returns how much of it was there. A
    grant that was given again since the last look is asked for what was missing."""
    taken = ZERO
    for row in family:
        if row.source_id == _again(back):
            continue
        done = _clawback(deps, row, back.id)
        if done is None and taken < wanted:
            asked = Pending(SOURCE, back.id, wanted - taken, ZERO, deps.accounts.gate.clock(), "money back")
            _, done = claw_back(deps.accounts.gate, rules, row.meter, (SOURCE, row.source_id), asked)
        taken += ZERO if done is None else done.taken
    return taken


def _give_again(deps: PackDeps, rules: Rules, bought: GrantRow, back: MoneyBack) -> None:
    """Give what a refund or dispute took, now that its money is ours again, until the same day as before."""
    holders = [bought, *(row for row in deps.accounts.gate.grants.rows(bought.account) if _is_again(row))]
    taken = sum((done.taken for row in holders if (done := _clawback(deps, row, back.id)) is not None), ZERO)
    if not taken:
        return
    again = bought._replace(
        account=rules.account,
        number=0,
        units=taken,
        source_id=_again(back),
        created_ms=deps.accounts.gate.clock(),
        reason="money returned",
        clawbacks=(),
        pending=None,
        ended=None,
    )
    give(deps.accounts.gate, rules, again)


def _is_again(row: GrantRow) -> bool:
    return row.source == SOURCE and row.source_id.endswith(":returned")


def _clawback(deps: PackDeps, given: GrantRow, source_id: str) -> Clawback | None:
    """What was taken back for a source, from a grant as it stands now."""
    row = deps.accounts.gate.grants.get(given.account, given.number)
    found = () if row is None else row.clawbacks
    return next((one for one in found if (one.source, one.source_id) == (SOURCE, source_id)), None)


def _units(rules: Rules, payment: Payment, bought: GrantRow, back: MoneyBack) -> Decimal:
    """The units that an amount of money bought, rounded up to the meter's scale: never more credits than were paid."""
    if back.amount >= payment.received:
        return bought.units
    part = EXACT.multiply(bought.units, Decimal(back.amount)) / Decimal(payment.received)
    step = Decimal(1).scaleb(-rules.meters[bought.meter].scale)
    return min(part.quantize(step, rounding=ROUND_UP, context=EXACT), bought.units)


def _short(deps: PackDeps, account: str, bought: GrantRow, missing: Decimal) -> None:
    """Tell the operator where less was left than the money bought: credits never go below zero, nor silently."""
    if missing <= 0:
        return
    text = (
        f"Account {account}: money went back for credits of {bought.meter} bought with {bought.source_id}, of which "
        f"{plain(missing)} units were used already."
    )
    deps.outbox.put(
        Alert(
            id=f"clawback_short#{account}#{bought.source_id}#{plain(missing)}",
            kind="clawback_short",
            account=account,
            subject=f"Credits were used before their money went back: {account}",
            text=text,
            at_ms=deps.accounts.gate.clock(),
            facts={"meter": bought.meter, "payment": bought.source_id, "missing": plain(missing)},
        )
    )
