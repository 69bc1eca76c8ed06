"""What Tollgate answered to the calls of a trace."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from demo.trace import Request

Verdict = Literal["granted", "refused", "rejected"]
"""`refused`: a limit or the plan said no; `rejected`: the API called the request wrong (4xx)."""
End = Literal["committed", "released", "crashed", "none"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One call's answers. Units are as Tollgate said them; what is expected is computed elsewhere."""

    request: Request
    verdict: Verdict
    end: End
    reason: str = ""
    """The limit's id or the code of a refusal or an error."""
    counted: tuple[bool, ...] = ()
    """For each item, whether Tollgate said that it is recorded."""
    units: Decimal = Decimal(0)
    """Sum over the recorded items."""
    waived: tuple[Decimal, ...] = ()
    """For each item of `usage`; one sum over all items otherwise."""
    late: bool = False
    over_reserved: bool = False
    surprises: tuple[str, ...] = ()
    """Answers that break the contract, such as a resend that counted again."""
