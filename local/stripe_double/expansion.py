"""`expand[]`: ids in an answer become the objects they name [docs: expanding responses].

A path names fields from the answer down, through `data` in lists: `latest_invoice.customer`, `data.tiers`. Some
fields are left out of an object unless they are expanded, such as a price's tiers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from local.stripe_double.errors import invalid
from local.stripe_double.params import Param, TextList
from local.stripe_double.wire import JsonObject

if TYPE_CHECKING:
    from local.stripe_double.state import Double

EXPAND: dict[str, Param] = {"expand": Param(TextList(20))}
"""For a call's parameters; what may be expanded is looked up here when the call has been carried out."""
MAX_DEPTH = 4

Expansion = Callable[["Double", JsonObject], Any]

_KNOWN: dict[tuple[str, str], Expansion] = {}


def expandable(object_name: str, field: str, expansion: Expansion) -> None:
    """Make a field of objects with this `object` expandable; `expansion` is given the object that holds it."""
    _KNOWN[object_name, field] = expansion


def expand(double: Double, answer: JsonObject, paths: Sequence[str]) -> JsonObject:
    """The answer with these paths expanded. Raises ApiError for a field that Stripe (or this double) has no object
    for, or a path deeper than four levels.
    """
    if not paths:
        return answer
    expanded = deepcopy(answer)
    for path in paths:
        fields = path.split(".")
        if len(fields) - (fields[0] == "data") > MAX_DEPTH:
            raise invalid(f"You cannot expand more than {MAX_DEPTH} levels of a property ({path}).", "expand")
        _expand(double, expanded, fields, path)
    return expanded


def _expand(double: Double, node: Any, fields: list[str], path: str) -> None:
    if node is None:
        return
    if isinstance(node, list):
        for item in node:
            _expand(double, item, fields, path)
        return
    field, rest = fields[0], fields[1:]
    expansion = _KNOWN.get((node.get("object", ""), field)) if isinstance(node, dict) else None
    if expansion is not None:
        if not isinstance(node.get(field), dict):
            node[field] = deepcopy(expansion(double, node))
    elif not isinstance(node, dict) or not rest or not isinstance(node.get(field), dict | list):
        raise invalid(f"This property cannot be expanded ({path}).", "expand")
    if rest:
        _expand(double, node[field], rest, path)
