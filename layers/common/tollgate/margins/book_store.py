"""The price book in the config table: `pk` `catalog`, `sk` `price_book`, `json` the book. Put with the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from tollgate import dynamo
from tollgate.clock import Clock
from tollgate.margins.book import PriceBook, of_text, to_text
from tollgate.margins.prices import cost_of

CACHE_MS = 60_000
_KEY = {"pk": "catalog", "sk": "price_book"}


class BookTable:
    """The price book on DynamoDB (config table), read at most once a minute and process."""

    def __init__(self, table: str, clock: Clock) -> None:
        self._table, self._clock = table, clock
        self._known: PriceBook | None = None
        self._read_ms = 0

    def put(self, book: PriceBook) -> None:
        dynamo.client().put_item(TableName=self._table, Item=dynamo.item({**_KEY, "json": to_text(book)}))
        self._known = None

    def book(self) -> PriceBook:
        """An empty one as long as no catalogue was published with one."""
        now = self._clock()
        if self._known is None or not 0 <= now - self._read_ms < CACHE_MS:
            found = dynamo.client().get_item(TableName=self._table, Key=dynamo.item(_KEY)).get("Item")
            self._known, self._read_ms = of_text(found["json"]["S"]) if found else PriceBook(), now
        return self._known

    def cost_of(self, meter: str, dimensions: Mapping[str, str], quantity: Decimal, at: int) -> Decimal | None:
        """`prices.cost_of` by the published book: for seal."""
        return cost_of(self.book(), meter, dimensions, quantity, at)
