"""Every operation, and a call that it takes."""

from __future__ import annotations

from typing import Any

RESERVE = {"account": "bad", "meter": "ai_credits", "quantity": 1}
EVENT = {"id": "e-1", **RESERVE}
NOTIFICATION = "msg_17952624000004c1f2a9be07d35a6b1c8"
ENDPOINT = "whe_0123456789abcdef"
OPEN = "{open}"
"""Stands for the id of an open reservation."""

BODIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "createReservation": ("POST", "/v1/reservations", RESERVE),
    "commitReservation": ("POST", f"/v1/reservations/{OPEN}/commit", {"quantity": 1}),
    "releaseReservation": ("POST", f"/v1/reservations/{OPEN}/release", {}),
    "extendReservation": ("POST", f"/v1/reservations/{OPEN}/extend", {"ttl_seconds": 60}),
    "recordUsage": ("POST", "/v1/usage", {"events": [EVENT]}),
    "createEstimate": ("POST", "/v1/estimates", RESERVE),
    "postCredits": (
        "POST",
        "/v1/accounts/bad/credits",
        {"meter": "ai_credits", "units": "5", "source_id": "pi_1", "idempotency_key": "credits-1"},
    ),
    "createCheckout": (
        "POST",
        "/v1/accounts/bad/checkout",
        {"plan": "seats", "success_url": "https://app.test/ok", "cancel_url": "https://app.test/no"},
    ),
    "createSubscription": (
        "POST",
        "/v1/accounts/bad/subscription",
        {"plan": "seats", "idempotency_key": "subscribe-1"},
    ),
    "putLevel": ("PUT", "/v1/accounts/bad/levels/storage", {"level": 0, "member": "u-1"}),
    "putAccount": ("PUT", "/v1/accounts/bad", {"name": "Bad"}),
    "freezeAccount": ("POST", "/v1/accounts/bad/freeze", {"reason": "why"}),
    "unfreezeAccount": ("POST", "/v1/accounts/bad/unfreeze", {}),
    "identifyAccount": ("POST", "/v1/accounts/bad-guest/identify", {"into": "bad"}),
    "changePlan": ("POST", "/v1/accounts/bad/plan", {"plan": "seats"}),
    "putControls": ("PUT", "/v1/accounts/bad/controls", {"soft_limit": "5", "block_overage": True}),
    "readNotifications": ("POST", "/v1/accounts/bad/notifications/read", {}),
    "createWebhookEndpoint": ("POST", "/v1/webhook_endpoints", {"url": "https://93.184.216.34/hooks"}),
    "putWebhookEndpoint": ("PUT", f"/v1/webhook_endpoints/{ENDPOINT}", {"description": "ours"}),
    "rotateWebhookEndpoint": ("POST", f"/v1/webhook_endpoints/{ENDPOINT}/rotate", {}),
    "createKey": ("POST", "/v1/keys", {"name": "k", "scopes": ["read"]}),
}
"""Every operation with a body, and one that it would take."""

READS = {
    "getReservation": ("GET", f"/v1/reservations/{OPEN}"),
    "getAccount": ("GET", "/v1/accounts/bad"),
    "listAccounts": ("GET", "/v1/accounts"),
    "getUsage": ("GET", "/v1/accounts/bad/usage"),
    "listEvents": ("GET", "/v1/accounts/bad/events"),
    "getLedger": ("GET", "/v1/accounts/bad/ledger"),
    "getLevel": ("GET", "/v1/accounts/bad/levels/storage"),
    "listNotifications": ("GET", "/v1/accounts/bad/notifications"),
    "readNotification": ("POST", f"/v1/accounts/bad/notifications/{NOTIFICATION}/read"),
    "listWebhookEndpoints": ("GET", "/v1/webhook_endpoints"),
    "getWebhookEndpoint": ("GET", f"/v1/webhook_endpoints/{ENDPOINT}"),
    "deleteWebhookEndpoint": ("DELETE", f"/v1/webhook_endpoints/{ENDPOINT}"),
    "listMembers": ("GET", "/v1/accounts/bad/members"),
    "removeMember": ("DELETE", "/v1/accounts/bad/members/u-1"),
    "getControls": ("GET", "/v1/accounts/bad/controls"),
    "listAudit": ("GET", "/v1/accounts/bad/audit"),
    "auditInvoice": ("GET", "/v1/accounts/bad/invoices/in_bad/audit"),
    "getPlatform": ("GET", "/v1/platform"),
    "resumePlatform": ("POST", "/v1/platform/resume"),
    "listKeys": ("GET", "/v1/keys"),
    "listReconciliations": ("GET", "/v1/reconciliations"),
    "getMargins": ("GET", "/v1/margins"),
    "listAccountMargins": ("GET", "/v1/margins/accounts"),
    "revokeKey": ("DELETE", "/v1/keys/key_0123456789abcdef"),
}
PUBLIC = {"listPlans", "getResume", "resumeByLink", "getHealth", "getOpenapi"}


OPEN_TO_EVERY_KEY = {"getReservation", "createEstimate"}


def lacking(operation: str) -> str:
    """A scope that does not open the operation (of those open to every key there is none)."""
    if operation == "putLevel":
        return "read"
    path = READS[operation][1] if operation in READS else BODIES[operation][1]
    return "usage" if operation in READS or path.startswith("/v1/accounts") else "read"
