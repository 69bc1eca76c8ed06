"""Fills a fresh stack: the catalogue and the local key through the product, the catalogue's meters in Stripe.

Runs in a process of its own (`python -m local.seed`), because it is the one place where the stack calls the product.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import stripe
import yaml

from local.lifeline import die_with_parent
from local.settings import StartupError


def seed(env: Mapping[str, str]) -> None:
    """Load the catalogue and create the local key in the product's tables, then create missing meters in Stripe.

    `env` is the functions' environment with TOLLGATE_CATALOG, TOLLGATE_LOCAL_KEY and TOLLGATE_LOCAL_STRIPE_KEY.
    Raises StartupError with one message.
    """
    path = Path(env["TOLLGATE_CATALOG"])
    load_product(path, env)
    create_stripe_meters(path, env)


def load_product(path: Path, env: Mapping[str, str]) -> None:
    """The product's part: refuse a wrong catalogue, else publish its plan versions; and the local secret key."""
    from tollgate import wiring
    from tollgate.accounts.key_store import SCOPES
    from tollgate.catalog.schema import CatalogError, load_catalog

    try:
        catalog = load_catalog(path)
    except CatalogError as problem:
        raise StartupError(str(problem)) from problem
    wiring.catalog_table(env).publish(catalog)
    wiring.keys(env).create("local", "test", SCOPES, env["TOLLGATE_LOCAL_KEY"])


def stripe_event_names(path: Path) -> dict[str, tuple[str, str]]:
    """Stripe event name -> (meter name, formula), for the catalogue's meters that Stripe counts. Of a level it
    takes the last value that it was told in a billing period."""
    meters: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")).get("meters", {})
    return {
        str(meter["stripe_event_name"]): (
            str(meter.get("name", meter_id)),
            "last" if meter.get("kind") == "level" else "sum",
        )
        for meter_id, meter in meters.items()
        if meter.get("stripe_event_name")
    }


def create_stripe_meters(path: Path, env: Mapping[str, str]) -> None:
    """Create each of the catalogue's meters in Stripe where no active one has its event name."""
    wanted = stripe_event_names(path)
    if not wanted:
        return
    base = env.get("TOLLGATE_STRIPE_API_BASE")
    key = env["TOLLGATE_LOCAL_STRIPE_KEY"]
    client = stripe.StripeClient(key, max_network_retries=2, base_addresses={"api": base} if base else {})
    try:
        meters = client.v1.billing.meters
        active = {meter.event_name for meter in meters.list({"status": "active", "limit": 100}).auto_paging_iter()}
        for event_name, (name, formula) in wanted.items():
            if event_name not in active:
                meters.create(
                    {
                        "display_name": name,
                        "event_name": event_name,
                        "default_aggregation": {"formula": formula},
                        "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
                        "value_settings": {"event_payload_key": "value"},
                    }
                )
    except stripe.StripeError as problem:
        raise StartupError(
            f"Stripe at {base or 'api.stripe.com'} refuses the catalogue's meters: {problem}"
        ) from problem


if __name__ == "__main__":
    die_with_parent()
    try:
        seed(os.environ)
    except StartupError as startup:
        print(startup, file=sys.stderr)
        sys.exit(2)
