from __future__ import annotations

import pytest
import stripe

from local.stripe_double.testing import NOON, Account


def test_create_and_retrieve(stripe_account: Account) -> None:
    customers = stripe_account.client.v1.customers
    created = customers.create(
        {
            "name": "Acme",
            "email": "billing@example.com",
            "metadata": {"tollgate_account": "acme"},
            "address": {"country": "SE"},
        }
    )
    assert created.id.startswith("cus_")
    found = customers.retrieve(created.id)
    assert found.to_dict() == created.to_dict()
    assert (found.object, found.name, found.created, found.livemode) == ("customer", "Acme", NOON, False)
    assert found.metadata is not None
    assert found.metadata.to_dict() == {"tollgate_account": "acme"}
    assert found.address is not None
    assert found.address.country == "SE"


def test_emails_are_not_unique_and_must_look_like_one(stripe_account: Account) -> None:
    customers = stripe_account.client.v1.customers
    assert customers.create({"email": "a@b.c"}).id != customers.create({"email": "a@b.c"}).id
    with pytest.raises(stripe.InvalidRequestError) as refused:
        customers.create({"email": "nobody"})
    assert (refused.value.code, refused.value.param) == ("email_invalid", "email")


def test_update_merges_metadata_and_leaves_the_rest(stripe_account: Account) -> None:
    customers = stripe_account.client.v1.customers
    customer = customers.create({"name": "Acme", "phone": "1", "metadata": {"a": "1", "b": "2"}})
    changed = customers.update(customer.id, {"metadata": {"b": "", "c": "3"}, "phone": ""})
    assert changed.metadata is not None
    assert changed.metadata.to_dict() == {"a": "1", "c": "3"}
    assert (changed.name, changed.phone) == ("Acme", None)
    cleared = customers.update(customer.id, {"metadata": ""})
    assert cleared.metadata is not None
    assert cleared.metadata.to_dict() == {}


@pytest.mark.parametrize("metadata", [{"k" * 41: "v"}, {"k": "v" * 501}, {str(number): "v" for number in range(51)}])
def test_metadata_has_stripes_limits(stripe_account: Account, metadata: dict[str, str]) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        stripe_account.client.v1.customers.create({"metadata": metadata})


def test_a_deleted_customer_is_shown_as_deleted_only(stripe_account: Account) -> None:
    customers = stripe_account.client.v1.customers
    customer = customers.create({"name": "Acme"})
    assert customers.delete(customer.id).deleted
    assert customers.retrieve(customer.id).to_dict() == {"id": customer.id, "object": "customer", "deleted": True}
    assert customers.list().data == []
    with pytest.raises(stripe.InvalidRequestError) as refused:
        customers.update(customer.id, {"name": "x"})
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        customers.delete(customer.id)
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")


def test_an_unknown_customer_is_a_404(stripe_account: Account) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        stripe_account.client.v1.customers.retrieve("cus_none")
    assert (refused.value.http_status, refused.value.code, refused.value.param) == (404, "resource_missing", "id")
    assert refused.value.user_message == "No such customer: 'cus_none'"


def test_lists_are_newest_first_and_paged_both_ways(stripe_account: Account) -> None:
    customers = stripe_account.client.v1.customers
    made = [customers.create({"name": str(number)}).id for number in range(5)][::-1]
    first = customers.list({"limit": 2})
    assert ([customer.id for customer in first.data], first.has_more) == (made[:2], True)
    second = customers.list({"limit": 2, "starting_after": made[1]})
    assert ([customer.id for customer in second.data], second.has_more) == (made[2:4], True)
    back = customers.list({"limit": 1, "ending_before": made[2]})
    assert ([customer.id for customer in back.data], back.has_more) == (made[1:2], True)
    assert [customer.id for customer in customers.list({"limit": 2}).auto_paging_iter()] == made
    everything = customers.list({"limit": 5})
    assert (len(everything.data), everything.has_more) == (5, False)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        customers.list({"starting_after": "cus_none"})
    assert (refused.value.http_status, refused.value.param) == (400, "starting_after")
    with pytest.raises(stripe.InvalidRequestError):
        customers.list({"starting_after": made[0], "ending_before": made[1]})


def test_lists_filter_by_email_and_creation(stripe_account: Account) -> None:
    customers = stripe_account.client.v1.customers
    early = customers.create({"email": "a@b.c"}).id
    stripe_account.advance(10)
    late = customers.create({"email": "A@b.c"}).id
    assert [customer.id for customer in customers.list({"email": "a@b.c"}).data] == [early]
    assert [customer.id for customer in customers.list({"created": NOON}).data] == [early]
    assert [customer.id for customer in customers.list({"created": {"gt": NOON}}).data] == [late]
    assert [customer.id for customer in customers.list({"created": {"gte": NOON, "lt": NOON + 10}}).data] == [early]
    assert customers.list({"created": {"gt": NOON, "lt": NOON + 10}}).data == []


def test_search_finds_by_metadata_and_lags(stripe_account: Account) -> None:
    stripe_account.control("settings", {"lag_seconds": 60})
    customers = stripe_account.client.v1.customers
    wanted = customers.create({"email": "a@b.c", "metadata": {"tollgate_account": "acme"}}).id
    customers.create({"email": "a@b.c", "metadata": {"tollgate_account": "other"}})
    query = "metadata['tollgate_account']:'acme' AND email:'a@b.c'"
    assert customers.search({"query": query}).data == []
    stripe_account.advance(60)
    assert [customer.id for customer in customers.search({"query": query}).data] == [wanted]
    pages = customers.search({"query": 'email:"a@b.c"', "limit": 1})
    assert pages.next_page is not None
    assert len(list(pages.auto_paging_iter())) == 2
    with pytest.raises(stripe.InvalidRequestError) as refused:
        customers.search({"query": "created>5"})
    assert refused.value.code == "not_emulated"
