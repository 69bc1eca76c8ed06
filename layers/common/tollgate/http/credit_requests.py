"""Request bodies of prepaid credits."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from tollgate.http.requests import Body, Key, Moment, Signed, whole

Name = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9._:@|+/-]{1,128}$")]


class CreditsIn(Body):
    """Credits given, or, with negative units, taken back."""

    meter: Annotated[str, Field(strict=True, min_length=1, max_length=64)]
    units: Annotated[Signed, Field(description="Above zero: a grant. Below zero: taken back from a grant.")]
    source: Annotated[Name, Field(description="Where they come from: `stripe`, `app_store`, `support`, ...")] = "manual"
    source_id: Annotated[
        Name | None,
        Field(description="The source's own id, which gives once; absent: the Idempotency-Key."),
    ] = None
    refund_of: Annotated[
        Name | None,
        Field(description="With negative units: the `source_id` under which the same source gave the credits."),
    ] = None
    reason: Annotated[str | None, Field(strict=True, min_length=1, max_length=256)] = None
    priority: Annotated[int, Field(ge=0, le=1000, description="The lowest burns first."), BeforeValidator(whole)] = 50
    effective_at: Moment | None = None
    expires_at: Moment | None = None
    idempotency_key: Key | None = None
