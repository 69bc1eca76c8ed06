"""Gates that tell, over the in-memory world: what the outbox takes, and the scheduled look at what it was not told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tests.support.memory import World
from tollgate.alerts.outbox import Alert
from tollgate.alerts.telling import tell, tell_standing
from tollgate.alerts.watch import Watched
from tollgate.gate.ports import GateDeps


class Crash(BaseException):
    """The process ends here. No `except Exception` catches it."""


@dataclass
class Told:
    """An outbox: takes an id once. `cut`: the process ends instead of the next so many puts."""

    alerts: list[Alert] = field(default_factory=list)
    puts: int = 0
    cut: int = 0

    def put(self, alert: Alert) -> bool:
        if self.cut:
            self.cut -= 1
            raise Crash
        self.puts += 1
        if any(alert.id == other.id for other in self.alerts):
            return False
        self.alerts.append(alert)
        return True

    def knows(self, alert_id: str) -> bool:
        return any(alert_id == other.id for other in self.alerts)

    def marks(self, of: str = "limit", kind: str = "threshold", member: str = "") -> list[int]:
        """The percentages told of one kind of thing, in order."""
        found = (alert for alert in self.alerts if alert.kind == kind and alert.facts["of"] == of)
        return [int(alert.facts["threshold"]) for alert in found if alert.facts.get("member", "") == member]


def telling_deps(world: World, told: Told) -> GateDeps:
    """The dependencies of one process whose gates tell."""
    deps = world.deps()

    def passed(*what: object) -> None:
        tell(told, *what)  # type: ignore[arg-type]

    return replace(deps, gates=Watched(deps.gates, deps.rules, deps.clock, passed))


def look_at_all(world: World, told: Told) -> int:
    """What the scheduled function and the sweep do for the gates they look at."""
    found = 0
    for subject, gate in sorted(world.gates.items()):
        account, _, member = subject.partition("#")
        if gate.rev >= 0 and not gate.closed:
            found += tell_standing(told, world.rules(account), gate, member or None, world.now_ms)
    return found
