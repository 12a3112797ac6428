"""A finding: what a detector believes is wrong, and the numbers behind it."""

from dataclasses import dataclass, field
from typing import Any, Literal

from models.calendar import Window
from schemas.policy import Action, Severity


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. The engine adds rule, scope, run, owner, time and cause, and makes it an alert.

    `level` orders findings of one incident: for limits the share reached (0.5, 0.8, 1.0), elsewhere 0.5 is a notice
    and 1.0 is sure enough to page. A limit of which no share is reached is a finding of level 0: where an incident is
    open about it, it is over. `action` is what the rule would have done; the verdict decides whether it is.
    """

    level: float
    severity: Severity
    value: int | float
    unit: str
    summary: str
    next_action: str
    limit: int | float | None = None
    baseline: int | float | None = None
    ratio: float | None = None
    action: Action | None = None
    aspect: str = ""
    """What tells findings of one rule about one subject apart, such as the counter that a cap limits."""
    window: Window | None = None
    """The stretch of time it is about. Its start is part of what makes the incident this one and no other."""
    ends_ms: int = 0
    """When the incident is over by itself, where that is not the end of `window`."""
    lasts_ms: int = 0
    """How long after it is found for the last time the incident about a run is over, 0 for at the run's end."""
    hour: Literal["breach", "notice", "new_normal", "day_breach"] | None = None
    """What it says of the scope's running hour: too expensive to be part of what is normal, too expensive and yet part
    of it, or the new normal; or of its day: too expensive."""
    nudge: str = ""
    """A sentence for the agent itself, where nothing is stopped: what it does over and over. Empty for none."""
    evidence: dict[str, Any] = field(default_factory=dict)
    memory: Any = None
    """What the rule wants kept of it for the judgements to come, by its `remember`."""
