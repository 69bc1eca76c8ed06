"""Stripe's customers (stripe-python 16): found by what we wrote into their metadata, listed, made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import stripe

from tollgate.customers.ports import Customer
from tollgate.errors import StripeRefused
from tollgate.stripe_api.reading import Connection
from tollgate.sync.objects import STACK

ACCOUNT: Final = "tollgate_account"
_PAGE: Final = 100


class StripeCustomers:
    """CustomerPort on Stripe."""

    def __init__(self, connection: Connection) -> None:
        self._stripe = connection

    def search(self, stack: str, account: str) -> list[Customer]:
        query = f"metadata['{STACK}']:'{stack}' AND metadata['{ACCOUNT}']:'{account}'"
        found = self._stripe.patiently(lambda client: client.v1.customers.search({"query": query, "limit": _PAGE}))
        return [_customer(one) for one in found.data]

    def all(self, since: int | None = None) -> Iterator[Customer]:
        params: Any = {"limit": _PAGE} if since is None else {"limit": _PAGE, "created": {"gte": since}}
        while True:
            page = self._page(params)
            yield from (_customer(one) for one in page.data)
            if not page.has_more or not page.data:
                return
            params = {**params, "starting_after": page.data[-1].id}

    def _page(self, params: Any) -> stripe.ListObject[stripe.Customer]:
        return self._stripe.patiently(lambda client: client.v1.customers.list(params))

    def exists(self, customer: str) -> bool:
        try:
            found = self._stripe.patiently(lambda client: client.v1.customers.retrieve(customer))
        except StripeRefused as refused:
            if refused.missing:
                return False
            raise
        return not getattr(found, "deleted", False)

    def create(self, stack: str, account: str, key: str) -> Customer:
        params: Any = {"metadata": {STACK: stack, ACCOUNT: account}}
        options: Any = {"idempotency_key": key}
        return _customer(self._stripe.once(lambda client: client.v1.customers.create(params, options)))

    def claim(self, customer: str, stack: str, account: str) -> None:
        params: Any = {"metadata": {STACK: stack, ACCOUNT: account}}
        self._stripe.patiently(lambda client: client.v1.customers.update(customer, params))

    def describe(self, customer: str, email: str | None, name: str | None) -> None:
        params: Any = {field: value for field, value in (("email", email), ("name", name)) if value is not None}
        self._stripe.patiently(lambda client: client.v1.customers.update(customer, params))


def _customer(found: stripe.Customer) -> Customer:
    metadata = found.metadata.to_dict() if found.metadata is not None else {}
    return Customer(found.id, found.created, found.email, found.name, metadata.get(STACK), metadata.get(ACCOUNT))
