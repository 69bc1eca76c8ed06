"""`tollgate smoke`: one unit from a reservation to Stripe's total, and back out."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Final, TypeVar

import httpx
import typer

from tollgate import wiring
from tollgate.accounts.key_store import SCOPES, KeyTable
from tollgate.billing.batch import FLUSHED, Batch
from tollgate.billing.batch_store import BatchTable
from tollgate.billing.sink import SinkUnavailable
from tollgate.catalog.frozen import PlanVersion
from tollgate.customers.attempt_store import AttemptTable
from tollgate.customers.needed import CustomerDeps, provide
from tollgate.quantities import plain
from tollgate.stripe_api.customers import StripeCustomers
from tollgate.stripe_api.totals import StripeTotals
from tollgate_cli.output import err, fail, note, out, table
from tollgate_cli.stripe_sync import published
from tollgate_cli.stripe_target import StripeTarget, stripe_of
from tollgate_cli.target import Profile, Region, StackName, Target, connected

T = TypeVar("T")

ACCOUNT: Final = "tollgate-smoke"
_MINUTE: Final = 60


@dataclass(slots=True)
class Smoke:
    """What the run knows by now. `rows`: what was done, what came of it, how long it took."""

    target: Target
    stripe: StripeTarget
    seconds: int
    rows: list[tuple[str, str, str]]

    @contextmanager
    def step(self, what: str) -> Iterator[list[str]]:
        """One row; the body appends what came of it."""
        said: list[str] = []
        begun = time.monotonic_ns()
        with err().status(f"{what}…"):
            yield said
        self.rows.append((what, " ".join(said), f"{(time.monotonic_ns() - begun) // 1_000_000} ms"))

    def until(self, look: Callable[[], T | None], what: str) -> T:
        """The first answer of `look`, asked again and again until the time is up."""
        end = time.monotonic_ns() + self.seconds * 1_000_000_000
        while True:
            found = look()
            if found is not None:
                return found
            if time.monotonic_ns() > end:
                self.show()
                fail(f"{what} after {self.seconds} s: see the table for how far it got, --timeout to wait longer.")
            time.sleep(1)

    def show(self) -> None:
        out().print(table(f"Smoke test of {self.target.name}", ("step", "", "took"), self.rows))


def smoke(
    plan: Annotated[str | None, typer.Option(help="A plan that sells usage; without it the first one.")] = None,
    meter: Annotated[str | None, typer.Option(help="One of its priced meters; without it the first one.")] = None,
    timeout: Annotated[int, typer.Option(min=10, max=7200, help="Seconds to wait for each step.")] = 900,
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Send one unit of an account of its own through everything: key, reservation, sealing, Stripe, and back out.

    Uses the account `tollgate-smoke` and a Stripe customer without a card. The meter event is cancelled at the end, so
    nothing is ever billed; the unit stays counted in that account. Takes a seal window and a few minutes.
    """
    with connected(stack, profile, region) as target:
        run = Smoke(target, stripe_of(target), timeout, [])
        version, priced = _sold(target, plan, meter)
        keys = wiring.keys(target.env)
        with run.step("make a key") as said:
            key, secret = keys.create("smoke", target.mode, SCOPES)
            said.append(key.id)
        try:
            _through(run, version, priced, secret)
        finally:
            _revoked(run, keys, key.id)
        run.show()
        note(f"{target.name} works from a reservation to Stripe's total, and nothing of it is billed.")


def _through(run: Smoke, version: PlanVersion, priced: str, secret: str) -> None:
    event_name = str(version.meters[priced].stripe_event_name)
    api = httpx.Client(base_url=run.target.api, headers={"Authorization": f"Bearer {secret}"}, timeout=30)
    with run.step("put the account") as said:
        _call(api, "PUT", f"/v1/accounts/{ACCOUNT}", {"plan": version.plan.id, "name": "Smoke test"})
        said.append(f"{ACCOUNT} on {version.plan.id}")
    with run.step("Stripe customer") as said:
        customer = _customer(run).customer
        said.append(customer)
    begun = int(time.time()) // _MINUTE * _MINUTE
    with run.step("reserve and commit one unit") as said:
        body = {"account": ACCOUNT, "member": "smoke", "meter": priced, "quantity": 1, "commit": True}
        answer = _call(api, "POST", "/v1/reservations", {**body, "idempotency_key": str(uuid.uuid4())})
        if not answer["allowed"]:
            fail(f"The reservation is refused: {answer['denial']['message']} Try another --plan or --meter.")
        said.append(f"{answer['units']} {priced}")
    if Decimal(answer["units"]) == 0:
        fail(f"One of `{priced}` is 0 units by its weights: nothing goes to Stripe. Try another --meter.")
    batches = BatchTable(run.target.env["TOLLGATE_BILLING_TABLE"])
    with run.step("seal and flush") as said:
        batch = run.until(lambda: _flushed(batches, priced, begun), "No batch was flushed")
        said.append(f"{plain(batch.units)} as {batch.identifier}")
    totals = StripeTotals(run.stripe.connection, lambda reads: None)
    start = batch.timestamp // _MINUTE * _MINUTE

    def total() -> Decimal | None:
        try:
            return totals.total(customer, event_name, start, start + _MINUTE)
        except SinkUnavailable:
            return None  # asked again, until the time is up

    with run.step("Stripe's total") as said:
        counted = run.until(lambda: found if (found := total()) else None, "Stripe shows no total")
        said.append(plain(counted))
    with run.step("cancel the meter event") as said:
        if not totals.cancel(event_name, str(batch.identifier)):
            fail(f"Stripe does not cancel {batch.identifier}: do it there, within 24 hours.")
        run.until(lambda: True if _below(total(), counted) else None, "Stripe still shows the unit")
        said.append("back out")


def _below(now: Decimal | None, counted: Decimal) -> bool:
    return now is not None and now < counted


def _customer(run: Smoke) -> Any:
    env = run.target.env
    attempts = AttemptTable(env["TOLLGATE_ACCOUNTS_TABLE"])
    stripe = StripeCustomers(run.stripe.connection)
    return provide(
        CustomerDeps(wiring.account_deps(env), stripe, attempts, lambda rules: None, run.target.name), ACCOUNT
    )


def _flushed(batches: BatchTable, meter: str, begun: int) -> Batch | None:
    """The newest batch of the meter from a window that ends after the run began."""
    ours = [one for one in batches.of_account(ACCOUNT) if one.meter == meter and one.window_end > begun]
    for one in ours:
        if one.final and one.state != FLUSHED:
            fail(f"The batch is {one.state} ({one.reason}): `tollgate batches list {ACCOUNT}` shows it.")
    return next((one for one in reversed(ours) if one.state == FLUSHED), None)


def _sold(target: Target, plan: str | None, meter: str | None) -> tuple[PlanVersion, str]:
    """The plan version and the priced meter to use; ends the command where there is none."""
    versions = published(wiring.catalog_table(target.env), False)
    if versions is None:
        fail(f"{target.name} has no catalogue yet: `tollgate catalog load` publishes one.")
    fitting = [
        (version, price.meter)
        for version in versions
        for price in version.plan.prices
        if version.meters[price.meter].kind == "sum"
        and plan in (None, version.plan.id)
        and meter in (None, price.meter)
    ]
    if not fitting:
        fail("No plan of the catalogue sells such usage: there is nothing that would reach Stripe.")
    return fitting[0]


def _call(api: httpx.Client, method: str, path: str, body: Any) -> Any:
    try:
        answer = api.request(method, path, json=body)
    except httpx.HTTPError as trouble:
        fail(f"The API at {api.base_url} does not answer: {trouble}")
    if answer.status_code >= 400:
        fail(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
    return answer.json()


def _revoked(run: Smoke, keys: KeyTable, key: str) -> None:
    keys.revoke(key)
    run.rows.append(("revoke the key", key, ""))
