"""API keys: `tg_<mode>_<random>`, stored only as their SHA-256, with scopes; revocation binds within 60 s.

Config table: `pk` `key#<sha256>`, `sk` `key`; list row `pk` `keys`, `sk` `<created ms>#<id>`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import NamedTuple

from botocore.exceptions import ClientError

from tollgate import dynamo
from tollgate.clock import Clock
from tollgate.errors import NotFound, Unauthorized

SCOPES = ("usage", "read", "admin")
CACHE_MS = 60_000
UNKNOWN_MS = 5_000
_CACHED_KEYS = 2_000


class ApiKey(NamedTuple):
    """One key, without its secret. `created_ms`, `revoked_ms`: epoch milliseconds."""

    id: str
    name: str
    mode: str
    scopes: tuple[str, ...]
    prefix: str
    created_ms: int
    revoked_ms: int | None = None

    def allows(self, scope: str) -> bool:
        """`admin` includes every other scope."""
        return scope in self.scopes or "admin" in self.scopes


class KeyTable:
    """Keys in the config table, cached for 60 s per process."""

    def __init__(self, table: str, clock: Clock) -> None:
        self._table, self._clock = table, clock
        self._cache: dict[str, tuple[int, ApiKey | None]] = {}

    def authenticate(self, secret: str) -> ApiKey:
        """The key that `secret` is. Raises Unauthorized for an unknown or revoked one."""
        name, now = digest(secret), self._clock()
        cached = self._cache.get(name)
        if cached is None or now - cached[0] >= (UNKNOWN_MS if cached[1] is None else CACHE_MS) or now < cached[0]:
            if len(self._cache) >= _CACHED_KEYS:
                self._cache.clear()
            cached = (now, self._read(name))
            self._cache[name] = cached
        key = cached[1]
        if key is None or key.revoked_ms is not None:
            raise Unauthorized
        return key

    def create(self, name: str, mode: str, scopes: Sequence[str], secret: str | None = None) -> tuple[ApiKey, str]:
        """A new key and its secret, which is shown once and never stored. `secret` given: that one (local stack).

        Key row first, list row after: a crash between leaves a key that works for nobody, as its secret was not shown.
        """
        shown = secret if secret is not None else f"tg_{mode}_{secrets.token_urlsafe(32)}"
        now = self._clock()
        key = ApiKey("key_" + digest(shown)[:16], name, mode, tuple(scopes), shown[:12], now)
        fields = {
            "id": key.id,
            "name": name,
            "mode": mode,
            "scopes": list(scopes),
            "prefix": key.prefix,
            "created": now,
            "hash": digest(shown),
        }
        self._put({"pk": f"key#{digest(shown)}", "sk": "key", **fields})
        self._put({"pk": "keys", "sk": key.id, **fields})
        return key, shown

    def list(self) -> list[ApiKey]:
        """All keys, newest first; of one millisecond, by id."""
        rows = dynamo.query(
            self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": dynamo.s("keys")},
            ConsistentRead=True,
        )
        return sorted((_key_of(raw) for raw in rows), key=lambda key: (key.created_ms, key.id), reverse=True)

    def revoke(self, key_id: str) -> None:
        """Revoke by id; repeating is harmless. Raises NotFound. The key's own row first: it is what binds."""
        listed = {"pk": dynamo.s("keys"), "sk": dynamo.s(key_id)}
        found = dynamo.client().get_item(TableName=self._table, Key=listed, ConsistentRead=True).get("Item")
        if found is None:
            raise NotFound(f"No key `{key_id}`; `tollgate keys list` shows them.")
        for key in ({"pk": dynamo.s(f"key#{found['hash']['S']}"), "sk": dynamo.s("key")}, listed):
            dynamo.client().update_item(
                TableName=self._table,
                Key=key,
                UpdateExpression="SET revoked = if_not_exists(revoked, :now)",
                ConditionExpression="attribute_exists(pk)",
                ExpressionAttributeValues={":now": dynamo.n(self._clock())},
            )

    def _read(self, name: str) -> ApiKey | None:
        key = {"pk": dynamo.s(f"key#{name}"), "sk": dynamo.s("key")}
        found = dynamo.client().get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item")
        return _key_of(found) if found else None

    def _put(self, fields: dict[str, object]) -> None:
        try:
            dynamo.client().put_item(
                TableName=self._table, Item=dynamo.item(fields), ConditionExpression="attribute_not_exists(pk)"
            )
        except ClientError as error:
            if not dynamo.failed_condition(error):
                raise


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _key_of(raw: dynamo.Item) -> ApiKey:
    row = dynamo.unitem(raw)
    revoked = row.get("revoked")
    return ApiKey(
        row["id"],
        row["name"],
        row["mode"],
        tuple(row["scopes"]),
        row["prefix"],
        int(row["created"]),
        None if revoked is None else int(revoked),
    )
