"""A month of each example catalogue, billed by the rating engine and by hand."""

from __future__ import annotations

from decimal import Decimal

from tests.unit.examples.shelf import AGENT, IMAGES, RESELLER, Call, billed, counted
from tollgate.rating.bill import Bill, Used

D = Decimal


def lines(of: Bill) -> list[tuple[str, Decimal, Decimal]]:
    return [(line.kind, line.quantity, line.amount) for line in of.lines]


def test_an_image_studio() -> None:
    made: list[Call] = [
        ("credits", 1_000, {"operation": "image"}),  # 1,000 credits
        ("credits", 700, {"operation": "image", "quality": "hd"}),  # 1,400
        ("credits", 40, {"operation": "video"}),  # 200
        ("credits", 150, {"operation": "image", "model": "draft-2"}),  # 37.5
    ]
    used = counted(IMAGES, "studio", *made)["credits"]
    assert used == D("2637.5")
    found = billed(IMAGES, "studio", {"credits": Used(used, credit_funded=D(2500))})
    assert lines(found) == [("base_fee", D(1), D(60)), ("usage", D("137.5"), D("2.75"))]
    assert (found.total, found.usage) == (D("62.75"), D("2.75"))


def test_a_creator_pays_the_base_fee_by_the_month_or_by_the_year() -> None:
    month = billed(IMAGES, "creator", {"credits": Used(D(500), credit_funded=D(500))})
    year = billed(IMAGES, "creator_yearly", {"credits": Used(D(6000), credit_funded=D(6000))})
    assert (month.total, year.total) == (D(15), D(150))
    assert year.total == 10 * month.total


def test_a_developer_past_the_included_model_use() -> None:
    month: list[Call] = [
        ("model_use", 6_000_000, {"model": "steady-4", "direction": "input"}),  # 1,800 cents
        ("model_use", 30_000_000, {"model": "steady-4", "direction": "cached_input"}),  # 900
        ("model_use", 500_000, {"model": "steady-4", "direction": "output"}),  # 750
        ("model_use", 8_333, {"model": "deep-1", "direction": "output"}),  # 62.4975
    ]
    used = counted(AGENT, "pro", *month)["model_use"]
    assert used == D("3512.4975")
    found = billed(AGENT, "pro", {"model_use": Used(used)})
    # 1,512.4975 cents beyond the 2,000 are $15.124975
    assert lines(found) == [("base_fee", D(1), D(20)), ("usage", D(2000), D(0)), ("usage", D("1512.4975"), D("15.12"))]
    assert found.total == D("35.12")


def test_a_team_shares_what_its_seats_bring() -> None:
    used = Used(D(21_250), by_seat=(D(7_500), D(7_500), D(6_250), *[D(0)] * 5))
    found = billed(AGENT, "team", {"model_use": used}, seats=8)
    # 8 x $40; 8 x 2,500 cents in the pool; 1,250 cents beyond it
    assert lines(found) == [("seats", D(8), D(320)), ("usage", D(1250), D("12.50"))]
    assert found.total == D("332.50")


def test_a_team_of_three_pays_for_five_seats_and_has_their_pool() -> None:
    found = billed(AGENT, "team", {"model_use": Used(D(12_600))}, seats=3)
    assert lines(found) == [("seats", D(5), D(200)), ("usage", D(100), D(1))]
    assert found.total == D(201)


def test_a_resellers_customer() -> None:
    month: list[Call] = [
        ("requests", 5_000, {"model": "aster-pro"}),
        ("model_use", 2_000_000, {"model": "aster-pro", "direction": "input"}),  # $6
        ("model_use", 10_000_000, {"model": "aster-pro", "direction": "cached_input"}),  # $3
        ("model_use", 400_000, {"model": "aster-pro", "direction": "output"}),  # $6
        ("model_use", 300_000, {"model": "aster-pro", "direction": "input", "context": "long"}),  # $1.80
        ("model_use", 2_000, {"model": "aster-pro", "direction": "output", "context": "long"}),  # $0.045
        ("model_use", 1_000_000, {"model": "ember-base", "direction": "input", "service": "batch"}),  # $0.30
    ]
    units = counted(RESELLER, "pay_as_you_go", *month)
    assert units == {"requests": D(5_000), "model_use": D(17_145_000)}
    used = {meter: Used(quantity) for meter, quantity in units.items()}
    # $17.145 plus 5 % are $18.00225; with the lower fee $17.4879, and the base fee on top. Requests cost nothing.
    assert lines(billed(RESELLER, "pay_as_you_go", used)) == [("usage", D(17_145_000), D("18.00"))]
    assert lines(billed(RESELLER, "scale", used)) == [
        ("base_fee", D(1), D(100)),
        ("usage", D(17_145_000), D("17.49")),
    ]


def test_from_which_use_on_the_lower_fee_pays_off() -> None:
    """The comment in the file says $3,334."""

    def totals(dollars: int) -> tuple[Decimal, Decimal]:
        used = {"model_use": Used(D(dollars) * 1_000_000)}
        return billed(RESELLER, "pay_as_you_go", used).total, billed(RESELLER, "scale", used).total

    high, low = totals(3_333)
    assert low > high
    high, low = totals(3_334)
    assert low < high
