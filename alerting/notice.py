"""One message to one receiver: about one incident, or several that are sent together."""

from dataclasses import dataclass, field
from typing import Any, Literal

from schemas.alert import Alert

Kind = Literal["incident", "acknowledged", "digest", "flapping", "watchdog", "review"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a receiver put a message, so that it can be updated: a Slack channel and time, a PagerDuty key."""

    place: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ready:
    """A message that was written beforehand, for every kind of receiver that shows one."""

    subject: str
    """What tells it apart from others of its kind, such as a week."""
    ts_ms: int
    text: str
    slack_text: str
    blocks: tuple[dict[str, Any], ...]
    """Slack's blocks."""
    data: Any
    """The same as JSON values."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One message. `alerts` has the newest alert of each incident in it; the first is the one it is mostly about.

    A `review` is about none: it comes `ready`.
    """

    kind: Kind
    alerts: tuple[Alert, ...]
    more: int = 0
    """Incidents left out because there were too many: "37 more runs over 80 %"."""
    first: Receipt | None = None
    """Where the incident's first message stands, to be updated and replied to; None if this is the first."""
    maybe_repeated: bool = False
    """An earlier attempt may have arrived: its outcome is unknown."""
    maybe_levels: tuple[float, ...] = ()
    """Other levels of the incident at which an attempt may have arrived."""
    ready: Ready | None = None
    note: str = ""
    """Who acknowledged the incident and why, when that is what it says."""

    @property
    def alert(self) -> Alert:
        """The alert it is mostly about."""
        return self.alerts[0]
