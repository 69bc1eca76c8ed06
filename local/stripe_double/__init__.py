"""A process that speaks Stripe's API, version 2026-10-28.endive, to the official SDK; everything in memory.

Run `python -m local.stripe_double --port 8788 [--lag-seconds 90]`, or in one process `Double(...)` with
`create_app(double)` or `server.running(double)`. Point the SDK at it: `stripe.StripeClient("sk_test_local",
base_addresses={"api": url, "meter_events": url})`.

| resource | calls | module |
| --- | --- | --- |
| customers | create, retrieve, update, list, search, delete | customers |
| billing meters | create, retrieve, update, list, deactivate, reactivate | meters |
| billing meter events (v1) | create | meter_events |
| billing meter event summaries | list | event_summaries |
| billing meter event adjustments | create (cancel) | meter_event_adjustments |
| products, prices | create, retrieve, update, list; delete products | products, prices, price_params |
| subscriptions | create, retrieve, update, cancel, pause, resume, list | subscriptions, subscription_* |
| subscription items | create, retrieve, update, delete, list | subscription_items |
| invoices | create, retrieve, update, delete, list, lines, finalize, pay, void, mark uncollectible, preview | invoices,
invoicing |
| invoice items | create, retrieve, delete, list | invoice_items |
| credit notes | create, retrieve, list, lines | credit_notes |
| v2 core events | list, retrieve: meter error reports | core_events, error_reports |
| events (v1) | list, retrieve; every change of an object emits one | events |
| webhook endpoints (v1) | create, list, retrieve, update, delete | webhook_endpoints |
| event destinations (v2) | create, list, retrieve, update, delete, enable, disable | event_destinations |
| checkout sessions, on Stripe's page | create, retrieve, list, expire, line items | checkout_sessions |
| payment intents, charges | retrieve, list | charges |
| refunds | create, retrieve, list | refunds |
| disputes | retrieve, list | disputes |
| delivery to them | signed POSTs, retried for three days | deliveries, courier |
| anything else | 404 with `code: "not_emulated"`, naming method and path | router |

Around every call: `auth`, `idempotency` (saved answers), `faults` (injected trouble), `params` (unknown and missing
parameters), `controls` (`/_double/...`, outside Stripe's API). Each rule's docstring names its evidence: [SDK] the
SDK's generated parameter and object classes, [docs] docs.stripe.com, [observed] real answers seen by others,
[assumed] nothing better is known: probe a sandbox before relying on it.
"""

from __future__ import annotations

from local.stripe_double.app import create_app
from local.stripe_double.state import Double

__all__ = ["Double", "create_app"]
