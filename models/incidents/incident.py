"""An incident: one fact that is wrong, from opened over escalated to resolved, and remembered for a while after."""

from dataclasses import dataclass
from typing import Any

import msgspec

from models.identity import derived_id
from models.state.rows import PLAIN, Row
from models.state.units.runs import Run
from schemas.alert import Alert
from schemas.duration import HOUR_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a finding is about: enough to name the incident, address the alert and know when it is over."""

    key: tuple[str | int, ...]
    """With the rule, what makes the incident this one and no other."""
    scope: dict[str, str]
    owner: str | None
    owners: tuple[str, ...] = ()
    """All owners, the largest first, where nobody has spent half or more."""
    run_id: str | None = None
    run: Run | None = None
    """The run that it is about, or that led to it, if there is one: whose spend it is. None for a scope."""
    unit_key: str | None = None
    """Run, session or run tree whose end resolves it, as `type/id`."""
    window_start_ms: int | None = None
    window_end_ms: int | None = None
    ends_ms: int = 0
    """When it is over by itself, 0 for at its unit's end."""
    late: bool = False


def tenant_in_hour(tenant_id: str, at_ms: int) -> Subject:
    """A tenant in the clock hour around `at_ms`: however often a rule finds it in that hour, it is one incident."""
    hour_ms = at_ms - at_ms % HOUR_MS
    return Subject(
        key=(hour_ms,),
        scope={"tenant_id": tenant_id},
        owner=None,
        window_start_ms=hour_ms,
        window_end_ms=hour_ms + HOUR_MS,
    )


class Incident(Row):
    """What was published of one fact, and at which level: the only place that remembers it.

    After its end it is kept without its alert, so that what was published once is not published again when a late
    record, another policy or a run that goes on finds it anew.
    """

    __slots__ = (
        "acknowledged", "alert", "aspect", "due_ms", "ends_ms", "forget_ms", "incident_id", "level", "limit",
        "nudge_delivered_ms", "nudged_ms", "opened_ms", "openings", "remind_ms", "reminders", "rule", "tenant_id",
        "unit_key",
    )  # fmt: skip
    kind = "incident"

    def __init__(self, tenant_id: str, incident_id: str, rule: str, aspect: str, unit_key: str | None) -> None:
        super().__init__()
        self.tenant_id = tenant_id
        self.incident_id = incident_id
        self.rule = rule
        self.aspect = aspect
        self.unit_key = unit_key
        self.alert: Alert | None = None
        """The last alert while the incident is open, its figures those of today; None once it is over."""
        self.level = 0.0
        """The highest level published, lowered where a raised limit or a new allowance has made it untrue."""
        self.limit: int | float | None = None
        """The limit that the level is a share of, where it is one."""
        self.opened_ms = 0
        self.openings = 0
        """How often it has been opened: the same fact once more, in the same millisecond, is another alert."""
        self.ends_ms = 0
        self.forget_ms = 0
        """When an incident that is over is forgotten, 0 for with its unit."""
        self.acknowledged = False
        self.reminders = 0
        self.remind_ms = 0
        """When the next reminder is due, 0 for never."""
        self.nudged_ms = 0
        """When the agent was sent a sentence about it, 0 if it was not."""
        self.nudge_delivered_ms = 0
        """When its guard said that the agent has it."""
        self.due_ms = 0

    @property
    def nudge_id(self) -> str:
        """The id of the command that carried the sentence."""
        return derived_id(self.incident_id, "nudge", self.nudged_ms)

    @property
    def nudge_evidence(self) -> dict[str, int]:
        """What an alert says of it."""
        told = {"nudged_ms": self.nudged_ms, "nudge_delivered_ms": self.nudge_delivered_ms}
        return {name: at_ms for name, at_ms in told.items() if at_ms}

    def key_parts(self) -> tuple[str, ...]:
        return (self.tenant_id, self.incident_id)

    def header(self) -> tuple[int, int, int]:
        return self.due_ms, 0, PLAIN

    def fields(self) -> tuple[Any, ...]:
        alert = None if self.alert is None else msgspec.to_builtins(self.alert)
        return (
            alert, self.rule, self.aspect, self.unit_key, self.level, self.limit, self.opened_ms, self.openings,
            self.ends_ms, self.forget_ms, self.acknowledged, self.reminders, self.remind_ms, self.nudged_ms,
            self.nudge_delivered_ms,
        )  # fmt: skip

    @classmethod
    def read(cls, parts: tuple[str, ...], due_ms: int, fields: tuple[Any, ...]) -> "Incident":
        """An incident as its row holds it."""
        alert, rule, aspect, unit_key = fields[:4]
        incident = cls(parts[0], parts[1], rule, aspect, unit_key)
        (
            incident.level, incident.limit, incident.opened_ms, incident.openings, incident.ends_ms, incident.forget_ms,
            incident.acknowledged, incident.reminders, incident.remind_ms, incident.nudged_ms,
            incident.nudge_delivered_ms,
        ) = fields[4:]  # fmt: skip
        incident.alert = None if alert is None else msgspec.convert(alert, Alert)
        incident.due_ms = due_ms
        return incident
