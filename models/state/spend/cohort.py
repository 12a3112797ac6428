"""The finished runs and sessions of one workflow: what one of them usually costs."""

from typing import Any, Final

from models.baselines.cost_level import CostLevel
from models.baselines.recent_costs import RecentCosts
from models.baselines.run_days import RunDays
from models.state.rows import Row
from models.state.spend.model_cohort import ModelCohort
from models.state.units.unit import UnitKind

MOST_MODELS: Final = 16
"""Of a workflow. Names come from outside: runs with further models are compared with nothing."""


class Cohort(Row):
    """Costs of a workflow's last finished runs and of its last finished sessions, by tenant and workflow."""

    __slots__ = ("begins_day", "days", "level", "models", "recent", "sessions", "tenant_id", "workflow")
    kind = "cohort"

    def __init__(self, tenant_id: str, workflow: str) -> None:
        super().__init__()
        self.tenant_id = tenant_id
        self.workflow = workflow
        self.recent = RecentCosts()
        self.sessions = RecentCosts()
        self.models: dict[str, ModelCohort] = {}
        """Model -> what runs with it usually come to; each is a row of its own."""
        self.level = CostLevel()
        """At what level its runs cost, and since when."""
        self.days = RunDays()
        """What its runs came to, by the day."""
        self.begins_day = False
        """Whether the run that is judged now is the first to finish on its day: then the day before it is looked at."""

    def add_model(self, model: str) -> ModelCohort | None:
        """What is known of the workflow's runs with a model, to be added to; None for one too many."""
        if model not in self.models and len(self.models) < MOST_MODELS:
            self.models[model] = ModelCohort(self.tenant_id, self.workflow, model)
        return self.models.get(model)

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
