"""What is cut: every handler, in the situations that its code tells apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any, Final

from tests.support.crash_run import GRANTED, Act, Broken, Call, Scenario, do, expect, http
from tests.support.crash_wire import KILLED_AFTER, KILLED_BEFORE
from tests.support.crash_world import NOON, World
from tollgate.ids import uuid7, uuid_text
from tollgate.usage.markers import shard_of

CREDITS: Final = "ai_credits"
TOKENS: Final = "llm_tokens"
SENT: Final = {"method": "POST", "path": "/v1/billing/meter_events"}
ASKED: Final = {"method": "GET", "path": "/v1/customers/*"}


def name(word: str) -> str:
    """An account in shard 0, so that one shard is all there is to seal."""
    return next(found for found in (f"{word}-{number}" for number in count()) if shard_of(found) == 0)


FREE, PRO, TEAM, UNMAPPED, NEW = name("free"), name("pro"), name("team"), name("unmapped"), name("new")


def uuid_key(number: int, at: int = NOON) -> str:
    """A UUIDv7 as a careful client makes it."""
    return uuid_text(uuid7(at * 1000 + number, bytes([number] * 10)))


# --- steps ------------------------------------------------------------------------------------------------------------


def wait(seconds: int) -> Act:
    return Act(f"wait {seconds} s", lambda world: world.wait(seconds))


def faults(*given: Mapping[str, Any]) -> Act:
    return Act("faults", lambda world: world.faults(*given))


def clock_off(process: str, seconds: int) -> Act:
    def change(world: World) -> None:
        world.skew_ms[process] = seconds * 1000

    return Act(f"clock of {process} off by {seconds} s", change)


def reserve(
    label: str,
    account: str,
    quantity: str,
    *,
    key: str | None = None,
    ok: str = "201",
    again: str = "",
    check: Callable[[Any], None] | None = None,
    process: str = "",
    cut: bool = True,
    **more: Any,
) -> Call:
    body = {"account": account, "meter": CREDITS, "quantity": quantity, **more}
    return Call(
        label,
        "gate",
        lambda world: http("POST", "/v1/reservations", body, key or f"key-of-{label}"),
        frozenset({ok}),
        frozenset(again.split(",")) if again else frozenset(),
        check=check,
        process=process,
        cut=cut,
    )


def on(
    label: str, reservation: str, what: str, *, key: str | None = None, ok: str = "200", again: str = "", **body: Any
) -> Call:
    """commit, release or extend of an earlier reservation."""

    def event(world: World) -> dict[str, Any]:
        return http("POST", f"/v1/reservations/{world.memory[reservation]['id']}/{what}", body, key)

    again_too = frozenset(again.split(",")) if again else frozenset()
    return Call(label, "gate", event, frozenset({ok}), again_too)


def usage(label: str, *events: Mapping[str, Any], key: str | None = None, process: str = "") -> Call:
    body = {"events": [{"meter": CREDITS, **event} for event in events]}
    return Call(label, "gate", lambda world: http("POST", "/v1/usage", body, key), process=process)


def manage(
    label: str, method: str, path: str, body: Any = None, *, key: str | None = None, ok: str = "200", again: str = ""
) -> Call:
    again_too = frozenset(again.split(",")) if again else frozenset()
    return Call(label, "manage", lambda world: http(method, path, body, key), frozenset({ok}), again_too)


def delete_customer(world: World) -> None:
    world.stripe.client.v1.customers.delete(world.memory["customers"][PRO])


def put(label: str, account: str, *, key: str | None = None, customer: bool = False, **body: Any) -> Call:
    def event(world: World) -> dict[str, Any]:
        more = {"stripe_customer_id": world.memory["customers"][account]} if customer else {}
        return http("PUT", f"/v1/accounts/{account}", {**body, **more}, key)

    return Call(label, "manage", event)


SWEEP: Final = Call("sweep", "sweep", lambda world: {})
ALERT: Final = Call("alert", "alert", lambda world: {"task": "thresholds"})
SEAL: Final = Call("seal", "seal", lambda world: {"shards": [0]})
FLUSH: Final = Call("flush", "flush", lambda world: {})
SEALED: Final = (wait(400), SEAL)


def scene(world: World) -> None:
    """The accounts that every scenario starts from."""
    names = (PRO, TEAM, UNMAPPED, NEW, FREE)
    world.memory["customers"] = {account: world.stripe.customer() for account in names}
    for call in (
        put("pro", PRO, plan="pro", customer=True),
        put("team", TEAM, plan="team", customer=True),
        put("unmapped", UNMAPPED, plan="pro"),
        put("free", FREE, plan="free"),
    ):
        answer = do(world, call)
        expect(answer.status == 200, answer)
        del world.memory[call.name]
    world.restart()


def used(**units: str | Decimal) -> dict[tuple[str, str], Decimal]:
    accounts = {"free": FREE, "pro": PRO, "team": TEAM, "unmapped": UNMAPPED, "new": NEW}
    return {(accounts[account], CREDITS): Decimal(amount) for account, amount in units.items()}


# --- expectations -----------------------------------------------------------------------------------------------------


def denied(code: str, limit: str | None = None) -> Callable[[Any], None]:
    def check(body: Any) -> None:
        found = body.get("denial") or {}
        expect(not body["allowed"] and found["code"] == code and found["limit"] == limit, "not refused so", body)

    return check


def limited_by(*limits: str) -> Callable[[Any], None]:
    def check(body: Any) -> None:
        expect({limit["id"] for limit in body["limits"]} == set(limits), "other rules", body["limits"])

    return check


# --- scenarios --------------------------------------------------------------------------------------------------------

PREMIUM: Final = {"model": "premium"}

RESERVE: Final = [
    Scenario("reserve on an unknown account", [reserve("r", NEW, "4", member="m")]),
    Scenario("reserve, account gate only", [reserve("r", PRO, "4", key=uuid_key(1))]),
    Scenario("reserve with a member gate", [reserve("r", PRO, "4", member="m", dimensions=PREMIUM)]),
    Scenario(
        "reserve refused by the wider gate",
        [reserve("r", FREE, "5", member="m", ok="200", check=denied("limit_reached", "daily"))],
        [reserve("first", FREE, "8", member="other", key=uuid_key(1), ttl_seconds=1400)],
    ),
    Scenario(
        "reserve, again after an answer",
        [reserve("r", PRO, "4", member="m", dimensions=PREMIUM)],
        [reserve("r", PRO, "4", member="m", dimensions=PREMIUM)],
    ),
    Scenario(
        "reserve, again after its hold expired",
        [reserve("r", FREE, "4", member="m"), on("c", "r", "commit")],
        [reserve("r", FREE, "4", member="m"), wait(400)],
        used(free="4"),
    ),
    Scenario(
        "reserve where expired holds stand in the way",
        [reserve("r", FREE, "6", member="m")],
        [reserve("first", FREE, "7", member="m"), wait(301)],
    ),
    Scenario(
        "reserve and commit in one call", [reserve("r", PRO, "4", commit=True, key=uuid_key(2))], (), used(pro="4")
    ),
    Scenario(
        "reserve and commit in one call, plain key, member",
        [reserve("r", PRO, "4", commit=True, member="m", dimensions=PREMIUM)],
        (),
        used(pro="4"),
    ),
]

MEMBER: Final = reserve("r", PRO, "5", member="m", dimensions=PREMIUM)
COMMIT: Final = [
    Scenario(
        "commit of what was reserved",
        [on("c", "r", "commit")],
        [reserve("r", PRO, "5", key=uuid_key(3))],
        used(pro="5"),
    ),
    Scenario("commit of less, member gate", [on("c", "r", "commit", quantity="3", key="c1")], [MEMBER], used(pro="3")),
    Scenario(
        "commit of more than reserved",
        [on("c", "r", "commit", quantity="9")],
        [MEMBER],
        used(pro="9"),
        over=frozenset({PRO}),
    ),
    Scenario("commit, again", [on("c", "r", "commit")], [MEMBER, on("c", "r", "commit")], used(pro="5")),
    Scenario("commit after expiry", [on("c", "r", "commit")], [MEMBER, wait(400)], used(pro="5")),
    Scenario(
        "late commit after reclaim",
        [on("c", "r", "commit", quantity="4")],
        [MEMBER, wait(400), SWEEP],
        used(pro="4"),
        over=frozenset({PRO}),
    ),
    Scenario(
        "late commit where only one gate was reclaimed",
        [on("c", "r", "commit")],
        [
            reserve("r", FREE, "4", member="m"),
            wait(301),
            reserve("other", FREE, "8", member="n"),
            on("back", "other", "release"),
        ],
        used(free="4"),
        over=frozenset({FREE}),
    ),
    Scenario(
        "commit across midnight",
        [on("c", "r", "commit", quantity="2"), reserve("next", FREE, "3", member="m")],
        [wait(86_400 // 2 - 100), reserve("r", FREE, "4", member="m"), wait(200)],
        used(free="2"),
    ),
]

RELEASE: Final = [
    Scenario("release", [on("x", "r", "release", again="409 already_released")], [MEMBER]),
    Scenario("release with a key", [on("x", "r", "release", key="x1")], [MEMBER]),
    Scenario(
        "release after the commit",
        [on("x", "r", "release", ok="409 already_committed")],
        [MEMBER, Broken(on("c", "r", "commit"), "dynamodb.put_item", KILLED_AFTER, 2)],
        used(pro="5"),
    ),
    Scenario(
        "release, then a late commit",
        [on("x", "r", "release", again="409 already_released"), on("c", "r", "commit")],
        [MEMBER],
        used(pro="5"),
        over=frozenset({PRO}),
    ),
    Scenario(
        "extend, then commit",
        [
            on("e", "r", "extend", ttl_seconds=500, quantity="8", key="e1", again="409 already_released"),
            on("c", "r", "commit", quantity="7"),
        ],
        [MEMBER],
        used(pro="7"),
        over=frozenset({PRO}),
    ),
    Scenario(
        "extend refused by the wider gate",
        [
            Call(
                "e",
                "gate",
                lambda world: http("POST", f"/v1/reservations/{world.memory['r']['id']}/extend", {"quantity": "9"}),
                again=frozenset({"409 already_released"}),
                check=lambda body: expect(not body["allowed"] and body["denial"]["limit"] == "daily", body),
            )
        ],
        [reserve("other", FREE, "5", member="n", ttl_seconds=1400), reserve("r", FREE, "4", member="m")],
    ),
]

BATCH: Final = (
    {"id": "plain", "account": PRO, "member": "m", "quantity": "2", "dimensions": PREMIUM},
    {"id": uuid_key(9), "account": PRO, "quantity": "3"},
    {"id": "plain", "account": PRO, "member": "m", "quantity": "2", "dimensions": PREMIUM},
    {"id": uuid_key(8), "account": FREE, "member": "m", "quantity": "12"},
)
USAGE: Final = [
    Scenario("usage of two accounts", [usage("u", *BATCH)], (), used(pro="5", free="12"), over=frozenset({FREE, PRO})),
    Scenario(
        "usage with a key, some of it known",
        [usage("u", *BATCH, key="batch-1")],
        [usage("first", BATCH[1], {"id": "more", "account": FREE, "quantity": "1", "member": "m"})],
        used(pro="5", free="13"),
        over=frozenset({FREE, PRO}),
    ),
    Scenario(
        "usage after a batch that died with its rows put",
        [usage("u", *BATCH[:2])],
        [Broken(usage("u", *BATCH[:2]), "dynamodb.put_item", KILLED_AFTER, 3)],
        used(pro="5"),
        over=frozenset({PRO}),
    ),
]


def witness(label: str, account: str, ok: str, check: Callable[[Any], None] | None) -> Call:
    """A reservation in a process that knows the account since before the change."""
    return reserve(
        label, account, "1", member="w", ok=ok, check=check, process="witness", cut=False, dimensions=PREMIUM
    )


ESTIMATED: Final = {"account": PRO, "meter": CREDITS, "quantity": "3"}
ACCOUNTS: Final = [
    Scenario("create an account", [put("p", NEW, plan="pro", customer=True, name="New"), reserve("r", NEW, "1")]),
    Scenario(
        "map a customer whose usage waits",
        [put("p", UNMAPPED, customer=True)],
        [usage("u", {"id": "w", "account": UNMAPPED, "quantity": "6"}), *SEALED],
        used(unmapped="6"),
        over=frozenset({UNMAPPED}),
    ),
    Scenario(
        "a change of plan binds the next reservation",
        [
            witness("before", PRO, "201", None),
            put("p", PRO, plan="team", key="p1"),
            witness("after", PRO, "201", limited_by("seat_hourly", "seat_jobs", "hourly")),
        ],
        [reserve("open", PRO, "7", ttl_seconds=900), reserve("done", PRO, "2", commit=True, member="m")],
        used(pro="2"),
        replanned=frozenset({PRO}),
    ),
    Scenario(
        "a change of plan, then a reservation that has its counters seeded",
        [
            manage("p", "POST", f"/v1/accounts/{PRO}/plan", {"plan": "team", "when": "now"}),
            reserve("r", PRO, "3", member="m"),
            on("c", "r", "commit", again="409 already_released"),
        ],
        [reserve("done", PRO, "2", commit=True, member="m"), reserve("open", PRO, "7", member="m", ttl_seconds=900)],
        used(pro="5"),
        replanned=frozenset({PRO}),
    ),
    Scenario(
        "a change of timezone",
        [put("p", FREE, timezone="Asia/Tokyo"), reserve("r", FREE, "4", member="m", again="200")],
        [reserve("done", FREE, "5", commit=True, member="m")],
        used(free="5"),
    ),
    Scenario(
        "freeze",
        [
            witness("before", PRO, "201", None),
            manage("f", "POST", f"/v1/accounts/{PRO}/freeze", {"reason": "unpaid"}, key="f1"),
            witness("after", PRO, "200", denied("frozen")),
        ],
    ),
    Scenario(
        "unfreeze",
        [
            witness("before", PRO, "200", denied("frozen")),
            manage("f", "POST", f"/v1/accounts/{PRO}/unfreeze"),
            witness("after", PRO, "201", None),
        ],
        [manage("frozen", "POST", f"/v1/accounts/{PRO}/freeze", {"reason": "unpaid"})],
    ),
    Scenario(
        "a customer's controls bind the next reservation",
        [
            witness("before", PRO, "201", None),
            manage("l", "PUT", f"/v1/accounts/{PRO}/controls", {"hard_limit": "0.02"}, key="l1"),
            witness("after", PRO, "200", denied("hard_limit", "hard_limit")),
        ],
        [reserve("done", PRO, "2", commit=True, member="m")],
        used(pro="2"),
    ),
    Scenario(
        "a member is removed",
        [manage("m", "DELETE", f"/v1/accounts/{PRO}/members/m")],
        [MEMBER, on("c", "r", "commit")],
        used(pro="5"),
    ),
    Scenario(
        "a commit on an account that was frozen meanwhile",
        [on("c", "r", "commit")],
        [MEMBER, manage("f", "POST", f"/v1/accounts/{PRO}/freeze", {"reason": "unpaid"})],
        used(pro="5"),
        over=frozenset({PRO}),
    ),
    Scenario(
        "what only reads",
        [
            Call("got", "gate", lambda world: http("GET", f"/v1/reservations/{world.memory['r']['id']}")),
            Call("estimate", "gate", lambda world: http("POST", "/v1/estimates", ESTIMATED)),
            manage("account", "GET", f"/v1/accounts/{PRO}"),
            manage("accounts", "GET", "/v1/accounts"),
            manage("usage", "GET", f"/v1/accounts/{PRO}/usage"),
            manage("events", "GET", f"/v1/accounts/{PRO}/events"),
            manage("controls", "GET", f"/v1/accounts/{PRO}/controls"),
            manage("audit", "GET", f"/v1/accounts/{PRO}/audit"),
            manage("ledger", "GET", f"/v1/accounts/{PRO}/ledger"),
            manage("members", "GET", f"/v1/accounts/{PRO}/members"),
            manage("keys", "GET", "/v1/keys"),
        ],
        [MEMBER, on("c", "r", "commit")],
        used(pro="5"),
    ),
    Scenario(
        "revoke a key",
        [Call("k", "manage", lambda world: http("DELETE", f"/v1/keys/{world.memory['made']['id']}"))],
        [Call("made", "manage", lambda world: http("POST", "/v1/keys", {"name": "n", "scopes": ["read"]}), GRANTED)],
    ),
    Scenario(
        "make a key",
        [
            Call(
                "k",
                "manage",
                lambda world: http("POST", "/v1/keys", {"name": "n", "scopes": ["read"]}, "k1"),
                frozenset({"201"}),
                frozenset({"409 key_already_made"}),
            )
        ],
    ),
]

SWEPT: Final = [
    Scenario("sweep of holds that became nothing", [SWEEP], [MEMBER, wait(400)]),
    Scenario(
        "sweep of a hold whose row was put",
        [SWEEP],
        [MEMBER, Broken(on("c", "r", "commit"), "dynamodb.put_item", KILLED_AFTER, 2), wait(400)],
        used(pro="5"),
    ),
    Scenario(
        "sweep of a batch that died halfway",
        [SWEEP],
        [Broken(usage("u", *BATCH[:2]), "dynamodb.put_item", KILLED_BEFORE, 3), wait(1000)],
        used(pro="2"),
        over=frozenset({PRO}),
    ),
    Scenario(
        "sweep of a gate left frozen",
        [SWEEP],
        [
            reserve("done", PRO, "2", commit=True, member="m"),
            reserve("open", PRO, "7"),
            Broken(put("p", PRO, plan="team"), "dynamodb.update_item", KILLED_AFTER),
            wait(400),
        ],
        used(pro="2"),
        replanned=frozenset({PRO}),
    ),
]

TWO: Final = (
    usage(
        "u",
        {"id": "one", "account": PRO, "quantity": "2"},
        {"id": "two", "account": TEAM, "quantity": "3", "member": "m"},
        {"id": "tok", "account": TEAM, "quantity": "1500", "meter": TOKENS},
        {"id": "free", "account": FREE, "quantity": "1", "member": "m"},
        {"id": "unm", "account": UNMAPPED, "quantity": "4"},
    ),
    wait(400),
)
USED_TWO: Final = {**used(pro="2", team="3", free="1", unmapped="4"), (TEAM, TOKENS): Decimal(1500)}
ONE: Final = (
    usage(
        "u",
        {"id": "one", "account": PRO, "quantity": "2"},
        {"id": "two", "account": TEAM, "quantity": "3", "member": "m"},
    ),
    wait(400),
)
USED_ONE: Final = used(pro="2", team="3")
SEAL_AND_FLUSH: Final = [
    Scenario("seal", [SEAL], TWO, USED_TWO),
    Scenario("seal, delivered again", [SEAL], [*ONE, Broken(SEAL, "sqs.send_message_batch", KILLED_AFTER)], USED_ONE),
    Scenario(
        "seal after one that died between its batches",
        [SEAL],
        [*ONE, Broken(SEAL, "dynamodb.put_item", KILLED_BEFORE, 3)],
        USED_ONE,
    ),
    Scenario(
        "seal of a row that was found late",
        [SEAL],
        [
            usage("u", {"id": "one", "account": PRO, "quantity": "2"}),
            wait(400),
            SEAL,
            clock_off("slow", -400),
            usage("late", {"id": "late", "account": PRO, "quantity": "5"}, process="slow"),
            wait(400),
        ],
        used(pro="7"),
        over=frozenset({PRO}),
    ),
    Scenario(
        "seal once a customer is mapped",
        [SEAL],
        [
            usage("u", {"id": "one", "account": UNMAPPED, "quantity": "2"}),
            *SEALED,
            Broken(put("p", UNMAPPED, customer=True), "dynamodb.transact_write_items", KILLED_AFTER),
            wait(100),
        ],
        used(unmapped="2"),
    ),
    Scenario("flush", [FLUSH], [*TWO, SEAL], USED_TWO),
    Scenario("flush with 429", [FLUSH], [*ONE, SEAL, faults({"match": SENT, "kind": "429", "times": 2})], USED_ONE),
    Scenario(
        "flush with a 500 that took effect",
        [FLUSH],
        [*ONE, SEAL, faults({"match": SENT, "kind": "500_after", "times": 1})],
        USED_ONE,
    ),
    Scenario(
        "flush with a 500 that did not",
        [FLUSH],
        [*ONE, SEAL, faults({"match": SENT, "kind": "500_before", "times": 1})],
        USED_ONE,
    ),
    Scenario(
        "flush of a batch in doubt",
        [FLUSH],
        [*ONE, SEAL, Broken(FLUSH, "stripe.POST billing/meter_events", KILLED_AFTER), wait(130)],
        USED_ONE,
    ),
    Scenario(
        "flush of a batch that was claimed and not sent",
        [FLUSH],
        [*ONE, SEAL, Broken(FLUSH, "stripe.POST billing/meter_events", KILLED_BEFORE), wait(130)],
        USED_ONE,
    ),
    Scenario(
        "flush refused while in doubt",
        [FLUSH],
        [
            *ONE,
            SEAL,
            Broken(FLUSH, "stripe.POST billing/meter_events", KILLED_AFTER),
            faults({"match": SENT, "kind": "429", "times": 1}),
            wait(130),
        ],
        USED_ONE,
    ),
    Scenario(
        "flush rejected while in doubt",
        [FLUSH],
        [
            *ONE,
            SEAL,
            Broken(FLUSH, "stripe.POST billing/meter_events", KILLED_AFTER),
            faults({"match": SENT, "kind": "status", "status": 400, "times": 1}),
            wait(130),
        ],
        USED_ONE,
    ),
    Scenario(
        "flush for a customer who is gone",
        [FLUSH],
        [
            usage("u", {"id": "one", "account": PRO, "quantity": "2"}),
            *SEALED,
            Act("the customer goes", delete_customer),
        ],
        used(pro="2"),
    ),
]

PURSE: Final = put("plan", NEW, plan="purse", customer=True)
PREPAID: Final = put("plan", NEW, plan="prepaid")
DEAR: Final = {"plan": "dear", "when": "now"}


def credits(label: str, units: str, source: str, *, refund_of: str | None = None, ends: int | None = None) -> Call:
    body: dict[str, Any] = {"meter": CREDITS, "units": units, "source": "shop", "source_id": source}
    if refund_of is not None:
        body["refund_of"] = refund_of
    if ends is not None:
        body["expires_at"] = f"{datetime.fromtimestamp(ends, UTC):%Y-%m-%dT%H:%M:%SZ}"
    ok = "201" if refund_of is None else "200"
    return manage(label, "POST", f"/v1/accounts/{NEW}/credits", body, key=f"key-of-{label}", ok=ok, again="200")


MONEY: Final = [
    Scenario(
        "reserve and commit across a tier's edge",
        [reserve("r", NEW, "7"), on("c", "r", "commit", quantity="6", again="409 already_released")],
        [PURSE, reserve("first", NEW, "2", commit=True)],
        used(new="8"),
    ),
    Scenario(
        "a commit above its reservation, past the cap on spend",
        [on("c", "r", "commit", quantity="20")],
        [PURSE, credits("g", "3", "pi_1"), reserve("r", NEW, "6")],
        used(new="20"),
    ),
    Scenario(
        "usage past the cap on spend",
        [usage("u", *({"id": uuid_key(at), "account": NEW, "quantity": n} for at, n in ((5, "30"), (6, "1"))))],
        [PURSE, reserve("open", NEW, "4", ttl_seconds=1400)],
        used(new="31"),
    ),
    Scenario(
        "credits given, then burned",
        [
            credits("g", "7", "pi_1"),
            reserve("r", NEW, "12", again="200"),
            on("c", "r", "commit", quantity="9", again="409 already_released"),
        ],
        [PURSE],
        used(new="9"),
    ),
    Scenario(
        "credits taken back",
        [credits("back", "-9", "re_1", refund_of="pi_1")],
        [PURSE, credits("g", "9", "pi_1"), reserve("r", NEW, "7", commit=True), reserve("open", NEW, "6")],
        used(new="7"),
    ),
    Scenario(
        "credits of a plan come due, and what was left rolls over",
        [reserve("r", NEW, "13"), on("c", "r", "commit", quantity="12", again="409 already_released")],
        [PREPAID, reserve("first", NEW, "3", commit=True), wait(86_400)],
        used(new="15"),
    ),
    Scenario(
        "a commit above its reservation burns what came due",
        [on("c", "r", "commit", quantity="18")],
        [PREPAID, wait(43_100), reserve("r", NEW, "8"), wait(200)],
        used(new="18"),
    ),
    Scenario(
        "sweep takes ended credits off the gate",
        [SWEEP, wait(1300), SWEEP],
        [
            PURSE,
            credits("g", "5", "pi_1", ends=NOON + 600),
            reserve("r", NEW, "3", commit=True),
            wait(4_300),
        ],
        used(new="3"),
    ),
    Scenario(
        "another plan at once: other prices for what is used and held",
        [manage("p", "POST", f"/v1/accounts/{NEW}/plan", DEAR), on("c", "r", "commit", again="409 already_released")],
        [PURSE, reserve("first", NEW, "4", commit=True), reserve("r", NEW, "3")],
        used(new="7"),
        replanned=frozenset({NEW}),
    ),
]

PASSING: Final = on("c", "r", "commit")
"""Of a reservation that is past half of the cap on spend."""
TOLD: Final = [
    Scenario(
        "a commit that passes a mark, and the scheduled look",
        [PASSING, ALERT],
        [PURSE, reserve("r", NEW, "8")],
        used(new="8"),
    ),
    Scenario(
        "the look at a mark that a dead commit passed",
        [ALERT],
        [PURSE, reserve("r", NEW, "8"), Broken(PASSING, "dynamodb.transact_write_items", KILLED_BEFORE)],
        used(new="8"),
    ),
    Scenario(
        "usage that passes marks of a limit, of a member's and of credits",
        [
            reserve("r", PRO, "26", commit=True, member="m", dimensions={"model": "premium"}),
            usage("u", {"id": uuid_key(7), "account": PRO, "quantity": "180"}),
            reserve("credits", NEW, "6"),
            on("burned", "credits", "commit", again="409 already_released"),
        ],
        [put("plan", NEW, plan="prepaid")],
        used(pro="206", new="6"),
    ),
]

SCENARIOS: Final = [*RESERVE, *COMMIT, *RELEASE, *USAGE, *ACCOUNTS, *SWEPT, *SEAL_AND_FLUSH, *MONEY, *TOLD]
