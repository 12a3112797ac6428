"""An incident: one fact that is wrong, from opened over escalated to resolved."""

from dataclasses import dataclass
from typing import Any

import msgspec

from models.commands.standing import Origin
from models.state.rows import Row
from models.state.runs import Run
from schemas.alert import Alert


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a finding is about: enough to name the incident, address the alert and know when it is over."""

    key: tuple[str | int, ...]
    """With the rule, what makes the incident this one and no other."""
    scope: dict[str, str]
    owner: str | None
    run_id: str | None = None
    run: Run | None = None
    """The run that it is about, or that led to it, if there is one: whose spend it is. None for a scope."""
    unit_id: str | None = None
    """Run, session or run tree whose end resolves it."""
    window_start_ms: int | None = None
    window_end_ms: int | None = None
    late: bool = False


class Incident(Row):
    """An open incident, with the last alert told about it."""

    __slots__ = ("acknowledged", "alert", "due_ms", "ends_ms", "reminders", "tenant_id", "unit_id")
    kind = "incident"

    def __init__(self, tenant_id: str, alert: Alert, unit_id: str | None, ends_ms: int) -> None:
        super().__init__()
        self.tenant_id = tenant_id
        self.alert = alert
        self.unit_id = unit_id
        self.ends_ms = ends_ms
        """When it resolves by itself, 0 for at its unit's end."""
        self.acknowledged = False
        self.reminders = 0
        self.due_ms = 0

    @property
    def incident_id(self) -> str:
        """The hash of rule, scope, and period or run."""
        return self.alert.incident_id

    @property
    def origin(self) -> Origin:
        """What a command says of why it is given."""
        return Origin(self.alert.incident_id, self.alert.rule, self.alert.summary, self.alert.owner)

    @property
    def since_ms(self) -> int:
        """The time of its first alert: later ones carry it as evidence."""
        since_ms: int = self.alert.evidence.get("since_ms", self.alert.ts_ms)
        return since_ms

    def key_parts(self) -> tuple[str, ...]:
        return (self.tenant_id, self.alert.incident_id)

    def header(self) -> tuple[int, int]:
        return self.due_ms, 0

    def fields(self) -> tuple[Any, ...]:
        alert = msgspec.to_builtins(self.alert)
        return (alert, self.unit_id, self.ends_ms, self.acknowledged, self.reminders)

    @classmethod
    def read(cls, tenant_id: str, due_ms: int, fields: tuple[Any, ...]) -> "Incident":
        """An incident as its row holds it."""
        alert, unit_id, ends_ms, acknowledged, reminders = fields
        incident = cls(tenant_id, msgspec.convert(alert, Alert), unit_id, ends_ms)
        incident.acknowledged = acknowledged
        incident.reminders = reminders
        incident.due_ms = due_ms
        return incident
