"""A sale is cut before and after each call to Stripe and to its own store, and asked for again: it is made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from tests.contract.http.surface import Surface
from tests.support.shop import MemoryShop
from tollgate.errors import Busy
from tollgate.subscriptions.asked_store import LOCKED_S
from tollgate.subscriptions.checkout import Once, SaleDeps, add_metered, sell_pack, sell_plan, subscribe

NUMBERS = count()
URLS = ("https://app.test/ok", "https://app.test/no")
ONCE = Once("key", b"digest")


class Killed(BaseException):
    """The process is gone: nothing after this runs, `finally` neither."""


class Cut:
    """Passes calls on and dies before or after the one at `place`; then every further call of this process dies, too,
    as that of a `finally` would not have happened."""

    def __init__(self, place: int, after: bool) -> None:
        self.place, self.after, self.made, self.dead = place, after, 0, False

    def around(self, port: Any) -> Any:
        return _Port(self, port)

    def call(self, method: Callable[..., Any], *given: Any) -> Any:
        if self.dead:
            raise Killed
        here = self.made == self.place
        self.made += 1
        self.dead = here
        if here and not self.after:
            raise Killed
        done = method(*given)
        if here:
            raise Killed
        return done


class _Port:
    def __init__(self, cut: Cut, port: Any) -> None:
        self._cut, self._port = cut, port

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *given: self._cut.call(getattr(self._port, name), *given)


Sale = Callable[[SaleDeps, str], Any]
SALES: dict[str, Sale] = {
    "plan": lambda deps, account: sell_plan(deps, account, "seats", None, URLS, ONCE),
    "pack": lambda deps, account: sell_pack(deps, account, "small", "usage", URLS, ONCE),
    "subscription": lambda deps, account: subscribe(deps, account, "usage", 5, ONCE),
    "metered": lambda deps, account: add_metered(deps, account, "usage", "sub_flat0", ONCE),
}


def prepared(surface: Surface) -> tuple[str, MemoryShop]:
    """A new account with a customer who has a flat subscription, where one is asked for; a Stripe of its own."""
    account = f"cut{next(NUMBERS)}"
    surface.call("PUT", f"/v1/accounts/{account}", {"stripe_customer_id": f"cus_{account}"})
    return account, MemoryShop()


@pytest.mark.parametrize("sale", SALES)
def test_a_sale_that_dies_anywhere_is_made_once(surface: Surface, sale: str) -> None:
    places = 0
    for place in count():
        for after in (False, True):
            account, shop = prepared(surface)
            if sale == "metered":
                shop.flat(f"cus_{account}")
            cut = Cut(place, after)
            deps = replace(surface.sales, shop=cut.around(shop), asked=cut.around(surface.sales.asked))
            try:
                SALES[sale](deps, account)
            except Killed:
                pass
            else:
                places = place
                break
            began = surface.sales.clock()
            again = replace(surface.sales, shop=shop, clock=lambda then=began: then + (LOCKED_S + 1) * 1000)  # type: ignore[misc]
            first = SALES[sale](again, account)
            assert SALES[sale](again, account) is not None
            assert len(shop.pages) == (sale in ("plan", "pack"))
            assert len(shop.there) == (sale in ("subscription", "metered"))
            if sale == "metered":
                assert [item.part for item in shop.there["sub_flat0"].items] == [None, "llm_tokens"], first
        else:
            continue
        break
    assert places >= 6, "nothing was cut"


def test_a_lock_that_was_left_ends_by_itself(surface: Surface) -> None:
    account, shop = prepared(surface)
    cut = Cut(2, after=False)
    deps = replace(surface.sales, shop=cut.around(shop), asked=cut.around(surface.sales.asked))
    with pytest.raises(Killed):
        SALES["subscription"](deps, account)
    began = surface.sales.clock()
    with pytest.raises(Busy):
        SALES["subscription"](replace(surface.sales, shop=shop, clock=lambda: began), account)
    assert shop.there == {}
