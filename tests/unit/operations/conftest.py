"""The product's functions in this process, on moto: one stage for each module of tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from unittest.mock import patch

import boto3
import pytest

from bench.stage import Stage, stage
from tollgate import dynamo, secrets, wiring
from tollgate.catalog.schema import parse_catalog

SECRET = "whsec_" + "a" * 32
CATALOG = """
currency: usd
default_plan: free
meters:
  tokens: {name: Tokens, unit: token, scale: 0, stripe_event_name: tokens}
  images: {name: Images, unit: image, scale: 0, stripe_event_name: images}
plans:
  free: {name: Free, breaker: off, limits: [{id: daily, meter: tokens, window: day, max: 10}]}
  open:
    name: Open
    breaker: {floor: {tokens: 300}}
    prices: [{meter: tokens, scheme: per_unit, unit_price: "0.001"}]
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Stage]:
    """The product on moto; the modules that keep its clients are gone afterwards."""
    before = set(sys.modules)
    forget()
    with stage() as one:
        wiring.catalog_table(os.environ).publish(parse_catalog(CATALOG))
        ssm = boto3.session.Session().client("ssm")
        ssm.put_parameter(Name="/tollgate/bench/webhook", Value=SECRET, Type="SecureString")
        with patch.dict(os.environ, {"TOLLGATE_WEBHOOK_SECRETS_PARAMETER": "/tollgate/bench/webhook"}):
            yield one
    for name in set(sys.modules) - before:
        if name.endswith(".app"):
            del sys.modules[name]
    forget()


def forget() -> None:
    for cached in (dynamo.session, dynamo.client, secrets.read):
        cached.cache_clear()
