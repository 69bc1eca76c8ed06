"""Channels in the config table: the settings (`pk` `notify`, `sk` `settings`, `rev`), and one row for each webhook
endpoint (`pk` `webhooks`, `sk` its id). An endpoint's secret stands in its row: it only signs what is sent there.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, Final

from botocore.exceptions import ClientError

from tollgate import dynamo
from tollgate.errors import NotFound
from tollgate.notify.channels import Settings, settings_fields, settings_of
from tollgate.notify.endpoint import Endpoint

_SETTINGS: Final = {"pk": "notify", "sk": "settings"}
_ENDPOINTS: Final = "webhooks"


class ChannelTable:
    """Channels on DynamoDB."""

    def __init__(self, table: str) -> None:
        self._table = table

    def settings(self) -> tuple[Settings, int]:
        """The settings and their revision, 0 where there are none."""
        found = self._get(_SETTINGS)
        return (Settings(), 0) if found is None else (settings_of(found["settings"]), int(found["rev"]))

    def put_settings(self, settings: Settings, rev: int) -> bool:
        """Replace the settings of revision `rev`; False where they changed since."""
        return self._put({**_SETTINGS, "settings": settings_fields(settings), "rev": rev + 1}, rev)

    def endpoints(self) -> list[Endpoint]:
        """All endpoints, newest first."""
        rows = dynamo.query(
            self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": dynamo.s(_ENDPOINTS)},
            ConsistentRead=True,
        )
        found = [_endpoint(dynamo.unitem(raw)) for raw in rows]
        return sorted(found, key=lambda one: (one.created_ms, one.id), reverse=True)

    def endpoint(self, name: str) -> Endpoint:
        """Raises NotFound."""
        found = self._get({"pk": _ENDPOINTS, "sk": name})
        if found is None:
            raise NotFound("No such webhook endpoint; GET /v1/webhook_endpoints lists them.")
        return _endpoint(found)

    def put_endpoint(self, endpoint: Endpoint, rev: int) -> bool:
        """Put an endpoint in place of its revision `rev` (0: a new one); False where that changed."""
        fields = asdict(replace(endpoint, rev=rev + 1))
        return self._put({"pk": _ENDPOINTS, "sk": endpoint.id, **fields}, rev)

    def delete_endpoint(self, name: str) -> None:
        """Deleting it again changes nothing."""
        key = {"pk": dynamo.s(_ENDPOINTS), "sk": dynamo.s(name)}
        dynamo.client().delete_item(TableName=self._table, Key=key)

    def disable(self, name: str, reason: str, url: str) -> None:
        """Send nothing there any more, unless it was deleted or leads elsewhere by now."""
        try:
            dynamo.client().update_item(
                TableName=self._table,
                Key={"pk": dynamo.s(_ENDPOINTS), "sk": dynamo.s(name)},
                UpdateExpression="SET disabled = :reason ADD rev :one",
                ConditionExpression="#url = :url",
                ExpressionAttributeNames={"#url": "url"},
                ExpressionAttributeValues={":reason": dynamo.s(reason), ":one": dynamo.n(1), ":url": dynamo.s(url)},
            )
        except ClientError as error:
            if not dynamo.failed_condition(error):
                raise

    def _get(self, key: dict[str, str]) -> dict[str, Any] | None:
        found = dynamo.client().get_item(TableName=self._table, Key=dynamo.item(key), ConsistentRead=True).get("Item")
        return dynamo.unitem(found) if found else None

    def _put(self, fields: dict[str, Any], rev: int) -> bool:
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
        if rev:
            condition = {"ConditionExpression": "rev = :rev", "ExpressionAttributeValues": {":rev": dynamo.n(rev)}}
        try:
            dynamo.client().put_item(TableName=self._table, Item=dynamo.item(fields), **condition)
        except ClientError as error:
            if not dynamo.failed_condition(error):
                raise
            return False
        return True


def _endpoint(row: dict[str, Any]) -> Endpoint:
    return Endpoint(
        id=row["id"],
        url=row["url"],
        events=tuple(row["events"]),
        description=row["description"],
        created_ms=int(row["created_ms"]),
        secret=row["secret"],
        old_secret=row.get("old_secret"),
        old_until=int(row["old_until"]),
        disabled=row.get("disabled"),
        rev=int(row["rev"]),
    )
