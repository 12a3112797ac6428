"""Flapping: what comes and goes is announced once as that, and not sent over and over."""

from dataclasses import dataclass, field

from schemas.alert import Alert
from schemas.duration import MINUTE_MS

FLAPPING_OPENS = 3
"""So many openings within `FLAPPING_WINDOW_MS`, and within one window of the rule: a new hour that opens is none."""
FLAPPING_WINDOW_MS = 60 * MINUTE_MS
QUIET_MS = 30 * MINUTE_MS
"""Flapping is over after so long without a change: a wider band out than in, so that it does not flap itself."""


@dataclass(slots=True)
class _Changes:
    """When one fact opened and ended of late."""

    opens_ms: list[int] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    last_ms: int = 0
    flapping: bool = False
    announced: set[str] = field(default_factory=set)


class Flapping:
    """Which facts flap. A fact is a rule about a scope or a run, whatever the window."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, ...], _Changes] = {}

    def observe(self, alert: Alert) -> None:
        """Take in an alert, at its own time. The same alert counts once."""
        if alert.state not in ("open", "resolved"):
            return
        changes = self._of.setdefault(_fact(alert), _Changes())
        if alert.alert_id in changes.seen:
            return
        if changes.flapping and alert.ts_ms >= changes.last_ms + QUIET_MS:
            changes.flapping, changes.opens_ms = False, []
        changes.seen = [*changes.seen[-15:], alert.alert_id]
        changes.last_ms = max(changes.last_ms, alert.ts_ms)
        if alert.state == "open":
            since_ms = max(alert.ts_ms - FLAPPING_WINDOW_MS, (alert.window_start_ms or 0) - 1)
            changes.opens_ms = [*(at_ms for at_ms in changes.opens_ms if at_ms > since_ms), alert.ts_ms]
        if not changes.flapping and len(changes.opens_ms) >= FLAPPING_OPENS:
            changes.flapping = True
            changes.announced = set()

    def until_ms(self, alert: Alert, now_ms: int) -> int | None:
        """Until when its fact is held to flap; None if it does not."""
        changes = self._of.get(_fact(alert))
        if changes is None or not changes.flapping or changes.last_ms + QUIET_MS <= now_ms:
            return None
        return changes.last_ms + QUIET_MS

    def is_announced(self, alert: Alert, receiver: str) -> bool:
        """Whether it has been announced to the receiver, or is pending there, that this fact flaps."""
        changes = self._of.get(_fact(alert))
        return changes is not None and receiver in changes.announced

    def announce(self, alert: Alert, receiver: str) -> None:
        """Remember that it is announced to a receiver."""
        self._of.setdefault(_fact(alert), _Changes()).announced.add(receiver)

    def forget(self, now_ms: int) -> None:
        """Drop what has not changed for long."""
        for fact, changes in list(self._of.items()):
            if changes.last_ms + FLAPPING_WINDOW_MS + QUIET_MS <= now_ms:
                del self._of[fact]


def _fact(alert: Alert) -> tuple[str, ...]:
    scope = (f"{name}={value}" for name, value in sorted(alert.scope.items()))
    return (alert.tenant_id, alert.rule, alert.run_id or "", *scope)
