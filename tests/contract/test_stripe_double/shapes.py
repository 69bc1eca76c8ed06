"""What the SDK says an object looks like, against what the double sent."""

from __future__ import annotations

from typing import Any

import stripe

LEFT_OUT = {"deleted"}
"""Only on deleted objects."""


def unknown_and_missing(found: stripe.StripeObject, expandable: set[str]) -> tuple[set[str], set[str]]:
    """Fields that the SDK's class does not have, and fields of it that the double left out, nested ones as paths.

    `expandable` are the fields that Stripe sends only when they are expanded. Missing nested fields are not counted:
    Stripe leaves out of a nested object what does not apply.
    """
    declared = _fields(type(found))
    sent = set(found.to_dict())
    unknown = sent - declared
    for name in sent & declared:
        unknown |= {f"{name}.{inner}" for inner in _unknown_inside(getattr(found, name))}
    return unknown, declared - sent - LEFT_OUT - expandable


def _fields(kind: type[Any]) -> set[str]:
    hints = getattr(kind, "__annotations__", {})
    return {name for name in hints if name != "OBJECT_NAME" and not name.startswith("_")}


def _unknown_inside(value: Any) -> set[str]:
    if isinstance(value, list):
        return {name for item in value for name in _unknown_inside(item)}
    if not isinstance(value, stripe.StripeObject) or not _fields(type(value)):
        return set()
    if isinstance(value, stripe.ListObject):
        return _unknown_inside(value.data)
    unknown = set(value.to_dict()) - _fields(type(value))
    for name in set(value.to_dict()) & _fields(type(value)):
        unknown |= {f"{name}.{inner}" for inner in _unknown_inside(getattr(value, name))}
    return unknown
