"""Metadata: what callers store on Stripe's objects."""

from __future__ import annotations

from collections.abc import Mapping

from local.stripe_double.params import Param, TextMap

METADATA = Param(TextMap(unsettable=True, max_keys=50, max_key=40, max_value=500))
"""The parameter of every object that has metadata; read as None where it was sent empty."""


def merged(kept: Mapping[str, str], given: Mapping[str, str] | None) -> dict[str, str]:
    """What is kept after an update: keys merge, a key with an empty value goes, None removes all [SDK:
    CustomerUpdateParams.metadata].
    """
    if given is None:
        return {}
    return {key: value for key, value in {**kept, **given}.items() if value}
