"""The finished runs and sessions of one workflow: what one of them usually costs."""

from typing import Any

from models.state.median import RecentCosts
from models.state.rows import Row
from models.state.units import UnitKind


class Cohort(Row):
    """Costs of a workflow's last finished runs, and of its last sessions, by tenant and workflow."""

    __slots__ = ("recent", "sessions", "tenant_id", "workflow")
    kind = "cohort"

    def __init__(self, tenant_id: str, workflow: str) -> None:
        super().__init__()
        self.tenant_id = tenant_id
        self.workflow = workflow
        self.recent = RecentCosts()
        """Of runs."""
        self.sessions = RecentCosts()

    def recent_of(self, kind: UnitKind) -> RecentCosts:
        """What to compare a unit of that kind with: sessions with sessions, runs with runs."""
        return self.sessions if kind == "session" else self.recent

    def key_parts(self) -> tuple[str, ...]:
        return (self.tenant_id, self.workflow)

    def fields(self) -> tuple[Any, ...]:
        return (self.recent.to_bytes(), self.sessions.to_bytes())

    @classmethod
    def read(cls, tenant_id: str, workflow: str, fields: tuple[Any, ...]) -> "Cohort":
        """A cohort as its row holds it."""
        cohort = cls(tenant_id, workflow)
        cohort.recent = RecentCosts.from_bytes(fields[0])
        cohort.sessions = RecentCosts.from_bytes(fields[1])
        return cohort
