"""The limits of the example catalogues at the gate: each refuses by its own name, and its window gives room again."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.support.gate import NOON, Client
from tests.unit.examples.shelf import AGENT, IMAGES, RESELLER, buy, client, refused_by, together
from tollgate.errors import MemberRequired
from tollgate.gate.reserve import Denied, Granted

D = Decimal
NOON_S = NOON // 1000
HOUR = 3600
HD = {"operation": "image", "quality": "hd"}
STEADY = {"model": "steady-4", "direction": "output"}
DEEP = {"model": "deep-1", "direction": "output"}


def pass_time(of: Client, seconds: int) -> None:
    of.world.now_ms += seconds * 1000


# --- the image app ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", ["creator", "creator_yearly", "casual"])
def test_a_fourth_image_at_once_waits_until_one_is_done(plan: str) -> None:
    app = client(IMAGES, plan)
    if plan == "casual":
        buy(app, plan, "pack_200", "order-1")
    first, *_ = [app.granted(1, meter="credits") for _ in range(3)]
    assert refused_by(app.reserve(1, meter="credits")) == "jobs"
    app.commit(first)
    assert isinstance(app.reserve(1, meter="credits"), Granted)
    app.check()


@pytest.mark.parametrize(("plan", "welcome"), [("creator", 100), ("creator_yearly", 300)])
def test_without_credits_it_stops(plan: str, welcome: int) -> None:
    app = client(IMAGES, plan)
    for credits in (400, 100 + welcome - 1):  # at most 400 a day
        app.commit(app.granted(credits, meter="credits"))
        pass_time(app, 24 * HOUR)
    refused = app.reserve(1, meter="credits", dimensions=HD)
    assert isinstance(refused, Denied)
    assert (refused.code, refused.requested, refused.remaining) == ("credits_exhausted", D(2), D(1))
    buy(app, plan, "pack_200", "order-1")
    app.commit(app.granted(100, meter="credits", dimensions=HD))
    app.commit(app.granted(1, meter="credits"))
    assert isinstance(app.reserve(1, meter="credits"), Denied)
    app.check()


@pytest.mark.parametrize("plan", ["creator", "creator_yearly"])
def test_credits_of_a_month_roll_over_up_to_a_thousand(plan: str) -> None:
    app = client(IMAGES, plan)
    app.commit(app.granted(1, meter="credits"))
    used = 0
    for _ in range(3):  # in the fourth month: 500 of its own, 1,000 of the 1,499 before
        pass_time(app, 31 * 24 * HOUR)
        app.commit(app.granted("0.5", meter="credits"))
    for credits in (400, 400, 400, 300):
        pass_time(app, 24 * HOUR)
        used += credits
        app.commit(app.granted(credits, meter="credits"))
    assert used == 1_500
    app.check()


def test_without_a_subscription_packs_are_all_that_can_be_used() -> None:
    app = client(IMAGES, "casual")
    refused = app.reserve(1, meter="credits")
    assert isinstance(refused, Denied)
    assert refused.code == "credits_exhausted"
    assert refused.remaining == 0
    buy(app, "casual", "pack_200", "order-1")
    app.commit(app.granted(199, meter="credits"))
    pass_time(app, 365 * 24 * HOUR)  # a pack lasts a year
    assert isinstance(app.reserve(1, meter="credits"), Denied)
    app.check()


def test_a_studio_goes_on_up_to_its_cap() -> None:
    app = client(IMAGES, "studio")
    app.commit(app.granted(7_500, meter="credits", member="ann"))  # 2,500 credits, then $100
    refused = app.reserve(1, meter="credits", member="bob")
    assert isinstance(refused, Denied)
    assert (refused.code, refused.remaining) == ("spend_cap", D(0))
    app.check()


def test_hd_counts_double_against_the_daily_cap() -> None:
    app = client(IMAGES, "free")
    app.commit(app.granted(4, meter="credits", dimensions=HD))
    assert app.taken("daily") == 8
    refused = app.reserve(2, meter="credits", dimensions=HD)
    assert refused_by(refused) == "daily"
    assert isinstance(refused, Denied)
    assert (refused.requested, refused.remaining) == (D(4), D(2))
    assert refused.resets_at == NOON_S + 12 * HOUR
    app.commit(app.granted(1, meter="credits", dimensions=HD))
    app.check()


def test_in_a_studio_no_member_takes_all_the_places_or_all_the_hd() -> None:
    app = client(IMAGES, "studio")
    for _ in range(3):
        app.granted(1, meter="credits", member="ann")
    assert refused_by(app.reserve(1, meter="credits", member="ann")) == "member_jobs"
    app.commit(app.granted(250, meter="credits", member="bob", dimensions=HD))
    assert refused_by(app.reserve(1, meter="credits", member="bob", dimensions=HD)) == "member_hd"
    assert isinstance(app.reserve(1, meter="credits", member="bob"), Granted)
    assert isinstance(app.reserve(1, meter="credits", member="cleo", dimensions=HD), Granted)
    app.check()


# --- the coding agent ------------------------------------------------------------------------------------------------


def test_the_five_hour_cap_opens_five_hours_after_the_first_use() -> None:
    app = client(AGENT, "pro")
    app.commit(app.granted(200_000, meter="model_use", dimensions=STEADY))  # 300 cents
    pass_time(app, 4 * HOUR)
    app.commit(app.granted(66_666, meter="model_use", dimensions=STEADY))  # 99.999
    refused = app.reserve(1, meter="model_use", dimensions=STEADY)
    assert refused_by(refused) == "five_hours"
    assert isinstance(refused, Denied)
    assert (refused.requested, refused.remaining) == (D("0.0015"), D("0.001"))
    assert refused.resets_at == NOON_S + 5 * HOUR
    pass_time(app, HOUR - 1)
    assert refused_by(app.reserve(1, meter="model_use", dimensions=STEADY)) == "five_hours"
    pass_time(app, 1)
    assert isinstance(app.reserve(1, meter="model_use", dimensions=STEADY), Granted)
    app.check()


def test_the_week_stops_what_the_five_hours_let_through() -> None:
    app = client(AGENT, "max")
    for _ in range(3):
        app.commit(app.granted(2_666_666, meter="model_use", dimensions=STEADY))  # 3,999.999 cents
        pass_time(app, 5 * HOUR)
    app.commit(app.granted(2_000_000, meter="model_use", dimensions=STEADY))  # 3,000: 14,999.997 in all
    refused = app.reserve(3, meter="model_use", dimensions=STEADY)
    assert refused_by(refused) == "weekly"
    assert isinstance(refused, Denied)
    assert refused.resets_at == NOON_S + 36 * HOUR  # Monday
    app.check()


def test_the_dearest_models_have_a_week_of_their_own() -> None:
    app = client(AGENT, "pro")
    app.commit(app.granted(53_333, meter="model_use", dimensions=DEEP))  # 399.9975 cents
    pass_time(app, 5 * HOUR)
    app.commit(app.granted(13_333, meter="model_use", dimensions=DEEP))  # 499.995 in all
    assert refused_by(app.reserve(1, meter="model_use", dimensions=DEEP)) == "weekly_deep"
    assert isinstance(app.reserve(1, meter="model_use", dimensions=STEADY), Granted)
    app.check()


def test_the_trial_ends_for_good_and_never_has_the_dearest_models() -> None:
    app = client(AGENT, "trial")
    refused = app.reserve(1, meter="model_use", dimensions=DEEP)
    assert refused_by(refused) == "deep"
    assert isinstance(refused, Denied)
    assert refused.resets_at is None
    app.commit(app.granted(133_333, meter="model_use", dimensions=STEADY))  # 199.9995 cents
    pass_time(app, 400 * 24 * HOUR)
    assert refused_by(app.reserve(1, meter="model_use", dimensions=STEADY)) == "trial"


def test_a_seat_stops_at_its_own_cap_of_money() -> None:
    app = client(AGENT, "team")
    with pytest.raises(MemberRequired):
        app.reserve(1, meter="model_use", dimensions=STEADY)
    for _ in range(3):  # $22.50 in each of three weeks of December
        pass_time(app, 14 * 24 * HOUR if app.world.now_ms == NOON else 7 * 24 * HOUR)
        for _ in range(3):
            app.commit(app.granted(500_000, meter="model_use", member="ann", dimensions=STEADY))  # 750 cents
            pass_time(app, 5 * HOUR)
    pass_time(app, 5 * 24 * HOUR)
    app.commit(app.granted(500_000, meter="model_use", member="ann", dimensions=STEADY))
    pass_time(app, 5 * HOUR)  # 7,500 cents in all
    refused = app.reserve(1, meter="model_use", member="ann", dimensions=STEADY)
    assert isinstance(refused, Denied)
    assert (refused.code, refused.per, refused.remaining) == ("spend_cap", "member", D(0))
    assert refused.resets_at == NOON_S + 40 * 24 * HOUR + 12 * HOUR  # the first of January
    app.commit(app.granted(1, meter="model_use", member="bob", dimensions=STEADY))
    app.check()
    app.world.now_ms = refused.resets_at * 1000
    assert isinstance(app.reserve(1, meter="model_use", member="ann", dimensions=STEADY), Granted)
    app.check()


def test_nothing_beyond_what_is_included_until_the_customer_switches_it_on() -> None:
    app = client(AGENT, "pro")
    for _ in range(3):  # 1,198.5 cents in this week, 799 in the next: 1,997.5 of 2,000
        app.commit(app.granted(266_333, meter="model_use", dimensions=STEADY))
        pass_time(app, 5 * HOUR)
    pass_time(app, 2 * 24 * HOUR)
    for _ in range(2):
        app.commit(app.granted(266_333, meter="model_use", dimensions=STEADY))
        pass_time(app, 5 * HOUR)
    refused = app.reserve(2_000, meter="model_use", dimensions=STEADY)  # 3 cents
    assert isinstance(refused, Denied)
    assert (refused.code, refused.requested, refused.remaining) == ("overage_blocked", D(3), D("2.5025"))
    assert isinstance(app.reserve(1_000, meter="model_use", dimensions=STEADY), Granted)
    app.check()


# --- the reseller ----------------------------------------------------------------------------------------------------


def ask(of: Client, key: str, model: str, output: int = 10) -> Granted | Denied:
    return together(
        of,
        key,
        ("requests", 1, {"model": model}),
        ("model_use", 100, {"model": model, "direction": "input"}),
        ("model_use", output, {"model": model, "direction": "output"}),
    )


def test_requests_per_minute() -> None:
    app = client(RESELLER, "trial")
    given_back = ask(app, "never-sent", "aster-mini")
    assert isinstance(given_back, Granted)
    app.release(given_back)
    for number in range(20):
        answer = ask(app, f"call-{number}", "aster-mini")
        assert isinstance(answer, Granted)
        if number >= 5:
            app.commit(answer)
    assert app.counts("rpm") == (D(20), D(5))
    refused = ask(app, "one-more", "aster-mini")
    assert refused_by(refused) == "rpm"
    assert isinstance(refused, Denied)
    assert refused.resets_at == NOON_S + 60
    pass_time(app, 60)
    for number in range(15):  # the five that are still open keep their places
        assert isinstance(ask(app, f"next-{number}", "aster-mini"), Granted)
    assert refused_by(ask(app, "next-15", "aster-mini")) == "rpm"
    app.check()


def test_a_call_that_fits_its_requests_but_not_its_money_takes_neither() -> None:
    app = client(RESELLER, "trial")
    # 100 x 0.25 + 800,000 x 1.25 micro-dollars are over the dollar by 25 of them
    assert refused_by(ask(app, "dear", "aster-mini", output=800_000)) == "trial"
    assert isinstance(ask(app, "fits", "aster-mini", output=799_980), Granted)
    assert (app.taken("rpm"), app.taken("trial")) == (D(1), D(1_000_000))
    app.check()


def test_the_cap_on_spend_has_the_fee_in_it() -> None:
    app = client(RESELLER, "pay_as_you_go")
    prompt = {"model": "lumen-ultra", "direction": "input"}  # $20 for a million tokens, $21 with the fee
    for millions in (10, 10):
        app.commit(app.granted(millions * 1_000_000, meter="model_use", dimensions=prompt))
        pass_time(app, 24 * HOUR)
    app.commit(app.granted(3_800_000, meter="model_use", dimensions=prompt))  # $499.80 of $500
    refused = app.reserve(10_000, meter="model_use", dimensions=prompt)  # $0.21
    assert isinstance(refused, Denied)
    assert refused.code == "spend_cap"
    assert isinstance(app.reserve(9_000, meter="model_use", dimensions=prompt), Granted)
    app.check()


def test_the_largest_models_are_not_in_the_trial_and_scarce_afterwards() -> None:
    assert refused_by(ask(client(RESELLER, "trial"), "large", "lumen-ultra")) == "ultra"
    app = client(RESELLER, "pay_as_you_go")
    for number in range(30):
        assert isinstance(ask(app, f"call-{number}", "lumen-ultra"), Granted)
    assert refused_by(ask(app, "one-more", "lumen-ultra")) == "rpm_ultra"
    assert isinstance(ask(app, "other", "lumen-mini"), Granted)
    app.check()


def test_open_requests_of_a_customer() -> None:
    app = client(RESELLER, "pay_as_you_go")
    for number in range(100):
        assert isinstance(ask(app, f"call-{number}", "kelp-nano"), Granted)
    assert refused_by(ask(app, "one-more", "kelp-nano")) == "open"
