"""Signatures of deliveries: the SDK's own make them, ours check them, and nothing else passes."""

from __future__ import annotations

import pytest
import stripe

from tollgate.errors import BadSignature
from tollgate.webhooks.keyring import AGAIN_MS, MAX_AGE_MS, Keyring, NoSecrets, secrets_in
from tollgate.webhooks.signature import FUTURE_S, PAST_S, sign, verify

NOW = 1_800_000_000
BODY = '{"id": "evt_1", "object": "event", "note": "Gr\u00fc\u00dfe"}'.encode()
SECRET, OTHER = "whsec_one", "whsec_two"


def reason(raw: bytes, header: str, secrets: tuple[str, ...] = (SECRET,), now: int = NOW) -> str | None:
    try:
        verify(raw, header, secrets, now)
    except BadSignature as refused:
        return refused.reason
    return None


def v1(secret: str, raw: bytes = BODY, at: int = NOW) -> str:
    return sign(raw, secret, at).partition(",")[2]


def test_what_the_sdk_accepts_is_what_we_sign_and_what_it_signs_is_accepted() -> None:
    stripe.WebhookSignature.verify_header(BODY.decode(), sign(BODY, SECRET, NOW), SECRET)
    made = stripe.WebhookSignature._compute_signature(f"{NOW}.{BODY.decode()}", SECRET)
    assert reason(BODY, f"t={NOW},v1={made}") is None
    assert reason(BODY, f"t={NOW},v0=x,v1={made}") is None


def test_one_of_several_secrets_and_one_of_several_signatures_is_enough() -> None:
    both = f"t={NOW},{v1(OTHER)},{v1(SECRET)}"
    assert reason(BODY, both) is None
    assert reason(BODY, both, (OTHER,)) is None
    assert reason(BODY, sign(BODY, SECRET, NOW), (OTHER, SECRET)) is None
    assert reason(BODY, sign(BODY, SECRET, NOW), ()) == "wrong"


@pytest.mark.parametrize(
    "raw", [BODY[:-1], BODY + b" ", BODY.replace(b"evt_1", b"evt_2"), BODY.replace(b": ", b":"), b""]
)
def test_a_body_that_is_not_the_signed_one_is_refused(raw: bytes) -> None:
    assert reason(raw, sign(BODY, SECRET, NOW)) == "wrong"


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("", "malformed"),
        ("t=1", "malformed"),
        (v1(SECRET), "malformed"),
        (f"t={NOW},t={NOW},{v1(SECRET)}", "malformed"),
        (f"t=+{NOW},{v1(SECRET)}", "malformed"),
        (f"t=0{NOW},{v1(SECRET)}", "malformed"),
        (f"t={'9' * 13},{v1(SECRET)}", "malformed"),
        (f"t=\u0661,{v1(SECRET)}", "malformed"),
        (f"t={NOW}," + ",".join([v1(SECRET)] * 17), "malformed"),
        (f"t={NOW}," + "x" * 5000, "malformed"),
        (f"t={NOW},v0={v1(SECRET)[3:]}", "malformed"),
        (f"t={NOW},v1=", "wrong"),
        (f"t={NOW},{v1(SECRET)[:-1]}", "wrong"),
        (f"t={NOW},{v1(SECRET).upper()[:2].lower()}{v1(SECRET).upper()[2:]}", "wrong"),
        (f"t={NOW},{v1(OTHER)}", "wrong"),
        (f"t={NOW - 1},{v1(SECRET)}", "wrong"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(header: str, why: str) -> None:
    assert reason(BODY, header) == why


@pytest.mark.parametrize(
    ("age", "why"), [(PAST_S, None), (PAST_S + 1, "stale"), (-FUTURE_S, None), (-FUTURE_S - 1, "early")]
)
def test_a_delivery_is_of_now(age: int, why: str | None) -> None:
    assert reason(BODY, sign(BODY, SECRET, NOW - age)) == why


def test_only_who_has_a_secret_learns_that_a_delivery_is_stale() -> None:
    assert reason(BODY, sign(BODY, OTHER, NOW - 10_000)) == "wrong"


# ---- the secrets


def test_secrets_are_a_json_list_or_have_commas_between_them() -> None:
    assert secrets_in("whsec_one") == (SECRET,)
    assert secrets_in(" whsec_one, whsec_two\n") == (SECRET, OTHER)
    assert secrets_in('["whsec_one", "whsec_two"]') == (SECRET, OTHER)


@pytest.mark.parametrize("text", ["", " , ", "[]", "[1]", '["whsec_one"', "sk_test_x", "whsec_", "whsec_one,nope"])
def test_what_holds_no_secret_is_refused_and_never_means_an_empty_one(text: str) -> None:
    with pytest.raises(NoSecrets):
        secrets_in(text)


class Stored:
    """A parameter, how often it was read, and the time."""

    def __init__(self) -> None:
        self.value, self.reads, self.ms = SECRET, 0, NOW * 1000
        self.ring = Keyring(self.read, lambda: self.ms)

    def read(self) -> str:
        self.reads += 1
        return self.value

    def check(self, secret: str) -> bool:
        try:
            self.ring.check(BODY, sign(BODY, secret, self.ms // 1000))
        except BadSignature:
            return False
        return True


def test_a_secret_that_was_rotated_is_found_by_the_first_signature_that_fails() -> None:
    stored = Stored()
    assert stored.check(SECRET)
    stored.value = f"{SECRET},{OTHER}"
    stored.ms += AGAIN_MS
    assert stored.check(OTHER)
    assert stored.check(SECRET)
    assert stored.reads == 2


def test_forged_deliveries_do_not_make_us_read_each_time() -> None:
    stored = Stored()
    for _ in range(100):
        assert not stored.check("whsec_forged")
        stored.ms += AGAIN_MS // 10
    assert stored.reads <= 12


def test_a_stale_delivery_reads_nothing_again() -> None:
    stored = Stored()
    assert stored.check(SECRET)
    stored.ms += AGAIN_MS
    with pytest.raises(BadSignature):
        stored.ring.check(BODY, sign(BODY, SECRET, NOW - 1000))
    assert stored.reads == 1


def test_a_secret_that_was_taken_out_ends_with_the_age_of_what_was_read() -> None:
    stored = Stored()
    assert stored.check(SECRET)
    stored.value = OTHER
    stored.ms += MAX_AGE_MS - 1
    assert stored.check(SECRET)
    stored.ms += 1
    assert not stored.check(SECRET)


def test_a_clock_that_jumps_back_reads_again() -> None:
    stored = Stored()
    assert stored.check(SECRET)
    stored.ms -= 1000
    assert stored.check(SECRET)
    assert stored.reads == 2
