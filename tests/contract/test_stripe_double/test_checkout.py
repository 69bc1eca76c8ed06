from __future__ import annotations

from typing import Any, cast

import pytest
import requests
import stripe

from local.stripe_double.testing import NOON, Account

HOUR = 3600


def price(stripe_account: Account, amount: int = 500, **more: Any) -> str:
    params: Any = {"currency": "usd", "unit_amount": amount, "product_data": {"name": "Pack"}, **more}
    return stripe_account.client.v1.prices.create(params).id


def session(stripe_account: Account, **more: Any) -> stripe.checkout.Session:
    """A session that sells one pack, unless told otherwise."""
    params: dict[str, Any] = {
        "mode": "payment",
        "success_url": "https://app.test/ok",
        "cancel_url": "https://app.test/no",
        **more,
    }
    if "line_items" not in params:
        params["line_items"] = [{"price": price(stripe_account), "quantity": 1}]
    return stripe_account.client.v1.checkout.sessions.create(cast(Any, params))


def events(stripe_account: Account) -> list[str]:
    """Types, oldest first, without those of the catalogue."""
    found = [event.type for event in stripe_account.client.v1.events.list({"limit": 100}).auto_paging_iter()]
    return [name for name in reversed(found) if not name.startswith(("product.", "price."))]


def test_a_session_has_a_page_and_a_day(stripe_account: Account) -> None:
    customer = stripe_account.customer()
    made = session(
        stripe_account,
        ui_mode="hosted_page",
        customer=customer,
        client_reference_id="acme",
        metadata={"tollgate_account": "acme"},
        payment_intent_data={"metadata": {"tollgate_pack": "small"}},
    )
    assert made.url is not None
    assert made.url.startswith("https://checkout.stripe.com/")
    assert (made.object, made.status, made.payment_status, made.mode) == (
        "checkout.session",
        "open",
        "unpaid",
        "payment",
    )
    assert (made.expires_at, made.created) == (NOON + 24 * HOUR, NOON)
    assert (made.amount_total, made.currency, made.customer) == (500, "usd", customer)
    assert made.client_reference_id == "acme"
    sessions = stripe_account.client.v1.checkout.sessions
    assert sessions.retrieve(made.id).to_dict() == made.to_dict()
    assert [one.id for one in sessions.list({"customer": customer, "status": "open"}).data] == [made.id]
    assert sessions.list({"status": "complete"}).data == []
    (item,) = sessions.line_items.list(made.id).data
    assert (item.quantity, item.amount_total, item.object) == (1, 500, "item")
    assert set(made.to_dict()) <= set(stripe.checkout.Session.__annotations__)


def test_a_paid_pack_is_a_payment_intent_with_its_charge(stripe_account: Account) -> None:
    customer = stripe_account.customer()
    made = session(stripe_account, customer=customer, payment_intent_data={"metadata": {"tollgate_pack": "small"}})
    done = stripe_account.control(f"checkout/{made.id}/complete", {"email": "a@b.c"})
    assert (done["status"], done["payment_status"], done["url"]) == ("complete", "paid", None)
    assert done["customer_details"]["email"] == "a@b.c"
    client = stripe_account.client
    intent = client.v1.payment_intents.retrieve(done["payment_intent"])
    assert (intent.status, intent.amount_received, intent.customer) == ("succeeded", 500, customer)
    assert intent.metadata.to_dict() == {"tollgate_pack": "small"}
    assert isinstance(intent.latest_charge, str)
    charge = client.v1.charges.retrieve(intent.latest_charge)
    assert (charge.paid, charge.amount, charge.payment_intent, charge.refunded) == (True, 500, intent.id, False)
    assert charge.metadata.to_dict() == {"tollgate_pack": "small"}
    assert [one.id for one in client.v1.charges.list({"payment_intent": intent.id}).data] == [charge.id]
    assert [one.id for one in client.v1.payment_intents.list({"customer": customer}).data] == [intent.id]
    assert events(stripe_account) == [
        "customer.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
    ]
    assert set(intent.to_dict()) <= set(stripe.PaymentIntent.__annotations__)
    assert set(charge.to_dict()) <= set(stripe.Charge.__annotations__)


def test_a_price_may_be_given_inline_and_a_guest_stays_one(stripe_account: Account) -> None:
    made = session(
        stripe_account,
        line_items=[
            {
                "price_data": {"currency": "usd", "unit_amount": 250, "product_data": {"name": "Pack"}},
                "quantity": 3,
            }
        ],
    )
    assert made.amount_total == 750
    done = stripe_account.control(f"checkout/{made.id}/complete", {})
    assert done["customer"] is None
    assert "customer.created" not in events(stripe_account)


def test_a_customer_is_made_where_asked_for(stripe_account: Account) -> None:
    made = session(stripe_account, customer_creation="always", customer_email="a@b.c")
    done = stripe_account.control(f"checkout/{made.id}/complete", {"name": "Acme"})
    customer = stripe_account.client.v1.customers.retrieve(done["customer"])
    assert (customer.email, customer.name) == ("a@b.c", "Acme")


def test_an_open_session_ends_by_itself_or_by_call_and_cannot_be_paid_then(stripe_account: Account) -> None:
    sessions = stripe_account.client.v1.checkout.sessions
    by_call, by_time, paid = (session(stripe_account) for _ in range(3))
    assert sessions.expire(by_call.id).status == "expired"
    stripe_account.control(f"checkout/{paid.id}/complete", {})
    stripe_account.advance(24 * HOUR)
    assert sessions.retrieve(by_time.id).status == "expired"
    assert sessions.retrieve(paid.id).status == "complete"
    assert events(stripe_account).count("checkout.session.expired") == 2
    for one in (by_call, by_time, paid):
        with pytest.raises(requests.HTTPError):
            stripe_account.control(f"checkout/{one.id}/complete", {})
        with pytest.raises(stripe.InvalidRequestError):
            sessions.expire(one.id)


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"mode": "setup"}, "mode"),
        ({"success_url": "app.test"}, "success_url"),
        ({"cancel_url": "ftp://app.test"}, "cancel_url"),
        ({"line_items": []}, "line_items"),
        ({"line_items": [{"price": "price_none", "quantity": 1}]}, "line_items[0][price]"),
        ({"line_items": [{"quantity": 1}]}, "line_items[0]"),
        ({"customer": "cus_none"}, "customer"),
        ({"subscription_data": {"metadata": {"a": "b"}}}, "subscription_data"),
        ({"mode": "subscription"}, "line_items"),
        ({"mode": "subscription", "payment_intent_data": {}, "customer_creation": "always"}, "customer_creation"),
        ({"expires_at": NOON + 60}, "expires_at"),
        ({"ui_mode": "elements"}, "ui_mode"),
    ],
)
def test_a_wrong_session_is_refused(stripe_account: Account, wrong: dict[str, Any], param: str) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        session(stripe_account, **wrong)
    assert (refused.value.http_status, refused.value.param) == (400, param)


def test_prices_must_fit_the_mode_and_each_other(stripe_account: Account) -> None:
    monthly = price(stripe_account, recurring={"interval": "month"})
    yearly = price(stripe_account, recurring={"interval": "year"})
    euros = price(stripe_account, currency="eur")
    stripe_account.meter()
    (meter,) = stripe_account.client.v1.billing.meters.list().data
    metered = price(stripe_account, recurring={"interval": "month", "usage_type": "metered", "meter": meter.id})
    archived = price(stripe_account)
    stripe_account.client.v1.prices.update(archived, {"active": False})
    for mode, items in (
        ("payment", [{"price": monthly, "quantity": 1}]),
        ("subscription", [{"price": monthly, "quantity": 1}, {"price": yearly, "quantity": 1}]),
        ("payment", [{"price": price(stripe_account), "quantity": 1}, {"price": euros, "quantity": 1}]),
        ("payment", [{"price": archived, "quantity": 1}]),
        ("payment", [{"price": price(stripe_account)}]),
        ("subscription", [{"price": metered, "quantity": 1}]),
    ):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            session(stripe_account, mode=mode, line_items=items)
        assert refused.value.http_status == 400, items


def test_a_deleted_customer_cannot_be_sold_to(stripe_account: Account) -> None:
    customer = stripe_account.customer()
    stripe_account.client.v1.customers.delete(customer)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        session(stripe_account, customer=customer)
    assert (refused.value.code, refused.value.param) == ("resource_missing", "customer")


# -- refunds and disputes ---------------------------------------------------------------------------------------------


def paid(stripe_account: Account) -> str:
    """The payment intent of a paid pack of 5 dollars."""
    return str(stripe_account.control(f"checkout/{session(stripe_account).id}/complete", {})["payment_intent"])


def test_a_charge_is_refunded_in_parts_and_no_further(stripe_account: Account) -> None:
    client, intent = stripe_account.client, paid(stripe_account)
    first = client.v1.refunds.create({"payment_intent": intent, "amount": 200, "metadata": {"a": "1"}})
    assert (first.status, first.amount, first.payment_intent) == ("succeeded", 200, intent)
    charge = client.v1.charges.retrieve(cast(str, first.charge))
    assert (charge.amount_refunded, charge.refunded) == (200, False)
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.refunds.create({"charge": charge.id, "amount": 301})
    rest = client.v1.refunds.create({"charge": charge.id})
    assert rest.amount == 300
    assert client.v1.charges.retrieve(charge.id).refunded
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"charge": charge.id})
    assert refused.value.code == "charge_already_refunded"
    assert [one.id for one in client.v1.refunds.list({"payment_intent": intent}).data] == [rest.id, first.id]
    assert client.v1.refunds.retrieve(rest.id).to_dict() == rest.to_dict()
    assert events(stripe_account)[-4:] == ["refund.created", "charge.refunded"] * 2
    assert set(first.to_dict()) <= set(stripe.Refund.__annotations__)
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.refunds.create({})


@pytest.mark.parametrize(
    ("status", "after"),
    [("lost", ["charge.dispute.closed"]), ("won", ["charge.dispute.closed", "charge.dispute.funds_reinstated"])],
)
def test_a_dispute_is_opened_and_closed(stripe_account: Account, status: str, after: list[str]) -> None:
    client, intent = stripe_account.client, paid(stripe_account)
    opened = stripe_account.control("disputes", {"payment_intent": intent, "reason": "fraudulent"})
    dispute = client.v1.disputes.retrieve(opened["id"])
    assert (dispute.status, dispute.amount, dispute.payment_intent) == ("needs_response", 500, intent)
    assert client.v1.charges.retrieve(cast(str, dispute.charge)).disputed
    assert events(stripe_account)[-2:] == ["charge.dispute.created", "charge.dispute.funds_withdrawn"]
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"payment_intent": intent})
    assert refused.value.code == "charge_disputed"
    with pytest.raises(requests.HTTPError):
        stripe_account.control("disputes", {"payment_intent": intent})
    stripe_account.control(f"disputes/{dispute.id}/close", {"status": status})
    assert client.v1.disputes.list({"payment_intent": intent}).data[0].status == status
    assert events(stripe_account)[-len(after) :] == after
    with pytest.raises(requests.HTTPError):
        stripe_account.control(f"disputes/{dispute.id}/close", {"status": status})
    assert set(dispute.to_dict()) <= set(stripe.Dispute.__annotations__)
