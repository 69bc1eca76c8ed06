"""Products: create, retrieve, update, list, delete. What prices belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local.stripe_double.changes import emit_update
from local.stripe_double.errors import ApiError, invalid, missing_resource
from local.stripe_double.events import emit
from local.stripe_double.expansion import EXPAND, expandable
from local.stripe_double.ids import new_id
from local.stripe_double.lists import CREATED, PAGING, page, within
from local.stripe_double.metadata import METADATA, merged
from local.stripe_double.operations import Call, Operation
from local.stripe_double.params import Flag, OneOf, Param, Params, SecondsOrRange, Text, TextList
from local.stripe_double.wire import JsonObject

if TYPE_CHECKING:
    from local.stripe_double.state import Double

_FIELDS: dict[str, Param] = {
    **EXPAND,
    "active": Param(Flag()),
    "description": Param(Text(40_000, unsettable=True)),
    "metadata": METADATA,
    "statement_descriptor": Param(Text(22)),
    "tax_code": Param(Text(unsettable=True)),
    "unit_label": Param(Text(12, unsettable=True)),
    "url": Param(Text(unsettable=True)),
}
_NOT_EMULATED = frozenset({"images", "marketing_features", "package_dimensions", "shippable", "tax_details"})
CREATE = Params(
    {
        **_FIELDS,
        "id": Param(Text(255)),
        "name": Param(Text(), required=True),
        "type": Param(OneOf(("good", "service"))),
    },
    _NOT_EMULATED | {"default_price_data"},
)
UPDATE = Params({**_FIELDS, "name": Param(Text()), "default_price": Param(Text(unsettable=True))}, _NOT_EMULATED)
RETRIEVE = Params(EXPAND)
DELETE = Params()
LIST = Params(
    {
        **PAGING,
        **EXPAND,
        "active": Param(Flag()),
        "created": Param(SecondsOrRange(CREATED)),
        "ids": Param(TextList(100)),
        "type": Param(OneOf(("good", "service"))),
        "url": Param(Text()),
    },
    frozenset({"shippable"}),
)


@dataclass
class Product:
    """One product. Times are epoch seconds; `values` are the fields that are stored as given."""

    id: str
    created: int
    updated: int
    active: bool = True
    metadata: dict[str, str] = field(default_factory=dict)
    values: JsonObject = field(default_factory=dict)
    deleted: bool = False

    def apply(self, params: Mapping[str, Any], now: int) -> None:
        """Set what is given."""
        for name, value in params.items():
            if name == "active":
                self.active = value
            elif name == "metadata":
                self.metadata = merged(self.metadata, value)
            elif name not in ("id", "expand"):
                self.values[name] = value
        self.updated = now

    def view(self) -> JsonObject:
        """The object; a deleted product is `{id, object, deleted: true}` [SDK: Product.deleted]."""
        if self.deleted:
            return {"id": self.id, "object": "product", "deleted": True}
        return {
            "id": self.id,
            "object": "product",
            "active": self.active,
            "created": self.created,
            "default_price": None,
            "description": None,
            "images": [],
            "livemode": False,
            "marketing_features": [],
            "metadata": dict(self.metadata),
            "name": None,
            "package_dimensions": None,
            "shippable": None,
            "statement_descriptor": None,
            "tax_code": None,
            "tax_details": None,
            "type": "service",
            "unit_label": None,
            "updated": self.updated,
            "url": None,
            **self.values,
        }


class Products:
    """All products, deleted ones too."""

    def __init__(self) -> None:
        self._by_id: dict[str, Product] = {}

    def add(self, product: Product) -> None:
        self._by_id[product.id] = product

    def get(self, product_id: str, param: str = "id", status: int = 404) -> Product:
        """A product that was not deleted. Raises ApiError naming `param` otherwise."""
        product = self._by_id.get(product_id)
        if product is None or product.deleted:
            raise missing_resource("product", product_id, param, status)
        return product

    def known(self, product_id: str) -> bool:
        return product_id in self._by_id

    def newest_first(self) -> list[Product]:
        """Not deleted."""
        return [product for product in reversed(self._by_id.values()) if not product.deleted]


def create(double: Double, call: Call) -> JsonObject:
    """POST /v1/products [SDK: ProductCreateParams]. An id may be given; one in use is refused
    (`resource_already_exists`) [docs: error codes].
    """
    return add(double, call.params).view()


def add(double: Double, params: Mapping[str, Any]) -> Product:
    """A new product from checked parameters, also the `product_data` of a price."""
    product_id = params.get("id")
    if product_id is not None and double.products.known(product_id):
        raise ApiError(400, "Product already exists.", code="resource_already_exists", param="id")
    now = double.clock.now()
    product = Product(product_id or new_id("prod"), now, now)
    product.apply(params, now)
    double.products.add(product)
    emit(double, "product.created", product.view())
    return product


def retrieve(double: Double, call: Call) -> JsonObject:
    """GET /v1/products/{id} [SDK]."""
    return double.products.get(call.args["id"]).view()


def update(double: Double, call: Call) -> JsonObject:
    """POST /v1/products/{id}: absent parameters stay; `active: false` archives it [SDK: ProductUpdateParams]. The
    default price must be an active one of its own [assumed].
    """
    product = double.products.get(call.args["id"])
    default_price = call.params.get("default_price")
    if default_price is not None:
        price = double.prices.get(default_price, "default_price", 400)
        if price.product != product.id or not price.active:
            raise invalid(f"The price {price.id} is not an active price of this product.", "default_price")
    before = product.view()
    product.apply(call.params, double.clock.now())
    emit_update(double, "product.updated", before, product.view())
    return product.view()


def delete(double: Double, call: Call) -> JsonObject:
    """DELETE /v1/products/{id}: only where it has no prices [SDK: ProductService.delete]."""
    product = double.products.get(call.args["id"])
    if any(price.product == product.id for price in double.prices.newest_first()):
        raise ApiError(400, "This product cannot be deleted because it has one or more user-created prices.")
    shown = product.view()
    product.deleted = True
    emit(double, "product.deleted", shown)
    return product.view()


def list_all(double: Double, call: Call) -> JsonObject:
    """GET /v1/products: newest first [SDK: ProductListParams]."""
    params = call.params
    wanted = {name: params[name] for name in ("active", "type", "url") if name in params}
    views = [product.view() for product in double.products.newest_first()]
    found = [
        view
        for view in views
        if all(view[name] == value for name, value in wanted.items())
        and ("ids" not in params or view["id"] in params["ids"])
        and within(view["created"], params.get("created"))
    ]
    return page(found, params, call.path, "product")


def _default_price(double: Double, product: JsonObject) -> JsonObject | None:
    price_id = product["default_price"]
    return None if price_id is None else double.prices.get(price_id).view()


expandable("product", "default_price", _default_price)

OPERATIONS = (
    Operation("POST", "/v1/products", create, CREATE),
    Operation("GET", "/v1/products", list_all, LIST),
    Operation("GET", "/v1/products/{id}", retrieve, RETRIEVE),
    Operation("POST", "/v1/products/{id}", update, UPDATE),
    Operation("DELETE", "/v1/products/{id}", delete, DELETE),
)
