"""Who may call: any test key, with the API version that the double speaks."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from local.stripe_double.errors import ApiError, not_emulated
from local.stripe_double.wire import API_VERSION


def check(headers: Mapping[str, str]) -> None:
    """Accepts `sk_test_...` and `rk_test_...` as Bearer token or Basic user name [docs: authentication]. Everything
    else, live keys above all, is a 401. Another Stripe-Version is refused, because its shapes would differ. Raises
    ApiError.
    """
    key = _key(headers.get("authorization", ""))
    if not key:
        raise _unauthorized(
            "You did not provide an API key. You need to provide your API key in the Authorization header, "
            "using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
        )
    if not key.startswith(("sk_test_", "rk_test_")) or len(key) <= len("sk_test_"):
        raise _unauthorized(f"Invalid API Key provided: {_masked(key)}")
    version = headers.get("stripe-version", API_VERSION)
    if version != API_VERSION:
        raise not_emulated(f"This double speaks API version {API_VERSION} only, not {version}.", 400)


def _key(header: str) -> str:
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(credentials, validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError) as error:
            raise _unauthorized("Invalid Basic authorization header.") from error
    return ""


def _masked(key: str) -> str:
    """Stripe shows a refused key's ends only."""
    return key[:8] + "*" * max(0, len(key) - 12) + key[-4:] if len(key) > 12 else "*" * len(key)


def _unauthorized(message: str) -> ApiError:
    return ApiError(401, message, headers={"WWW-Authenticate": 'Bearer realm="Stripe"'}, saved=False)
