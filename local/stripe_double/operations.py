"""What an emulated call is: method, path, parameters, and the function that carries it out."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from local.stripe_double.params import Params
from local.stripe_double.wire import JsonObject

if TYPE_CHECKING:
    from local.stripe_double.state import Double


@dataclass(frozen=True)
class Call:
    """One request whose parameters have been checked. `args` are the ids in its path."""

    args: Mapping[str, str]
    params: Mapping[str, Any]
    path: str
    idempotency_key: str | None = None


Handler = Callable[["Double", Call], JsonObject]


@dataclass(frozen=True)
class Operation:
    """`exclusive` names what may be worked on by one call at a time (None: nothing); a second call meets a 429."""

    method: str
    path: str
    handler: Handler
    params: Params = field(default_factory=Params)
    exclusive: Callable[[Double, Call], Hashable | None] | None = None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path))

    def args(self, method: str, path: str) -> dict[str, str] | None:
        """The ids in the path, or None where this is another operation's request."""
        if method != self.method:
            return None
        match = self._pattern.fullmatch(path)
        return match.groupdict() if match else None
