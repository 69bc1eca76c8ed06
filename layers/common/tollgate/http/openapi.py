"""The OpenAPI 3.1 document as the manage function serves it."""

from __future__ import annotations

import json
from functools import lru_cache


@lru_cache(maxsize=1)
def document_text() -> str:
    """The document as JSON, made when it is first asked for, and never while a function starts."""
    from tollgate.http.openapi_document import document

    return json.dumps(document(), separators=(",", ":"), ensure_ascii=False)
