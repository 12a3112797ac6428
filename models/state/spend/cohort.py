"""The finished runs and sessions of one workflow: what one of them usually costs."""

from typing import Any

from models.baselines.cost_level import CostLevel
from models.baselines.recent_costs import RecentCosts
from models.baselines.run_days import RunDays
from models.state.rows import Row
from models.state.units.unit import UnitKind


class Cohort(Row):
    """Costs of a workflow's last finished runs and of its last finished sessions, by tenant and workflow."""

    __slots__ = ("begins_day", "days", "level", "recent", "sessions", "tenant_id", "workflow")
    kind = "cohort"

    def __init__(self, tenant_id: str, workflow: str) -> None:
        super().__init__()
        self.tenant_id = tenant_id
        self.workflow = workflow
        self.recent = RecentCosts()
        self.sessions = RecentCosts()
        self.level = CostLevel()
        """At what level its runs cost, and since when."""
        self.days = RunDays()
        """What its runs came to, by the day."""
        self.begins_day = False
        """Whether the run that is judged now is the first to finish on its day: then the day before it is looked at."""

    def recent_of(self, kind: UnitKind) -> RecentCosts:
        """Costs of the last finished ones of that kind: like is compared with like."""
        return self.sessions if kind == "session" else self.recent

    def key_parts(self) -> tuple[str, ...]:
        return (self.tenant_id, self.workflow)

    def fields(self) -> tuple[Any, ...]:
        return self.recent.to_bytes(), self.sessions.to_bytes(), self.level.fields(), self.days.fields()

    @classmethod
    def read(cls, tenant_id: str, workflow: str, fields: tuple[Any, ...]) -> "Cohort":
        """A cohort as its row holds it."""
        cohort = cls(tenant_id, workflow)
        recent, sessions, level, days = fields
        cohort.recent, cohort.sessions = RecentCosts.from_bytes(recent), RecentCosts.from_bytes(sessions)
        cohort.level, cohort.days = CostLevel.read(level), RunDays.read(days)
        return cohort
