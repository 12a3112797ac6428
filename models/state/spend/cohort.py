"""The finished runs and sessions of one workflow: what one of them usually costs."""

from typing import Any, Final

from models.baselines.recent_costs import RecentCosts
from models.state.rows import Row
from models.state.spend.model_cohort import ModelCohort
from models.state.units.unit import UnitKind

MOST_MODELS: Final = 16
"""Of a workflow. Names come from outside: runs with further models are compared with nothing."""


class Cohort(Row):
    """Costs of a workflow's last finished runs and of its last finished sessions, by tenant and workflow."""

    __slots__ = ("models", "recent", "sessions", "tenant_id", "workflow")
    kind = "cohort"

    def __init__(self, tenant_id: str, workflow: str) -> None:
        super().__init__()
        self.tenant_id = tenant_id
        self.workflow = workflow
        self.recent = RecentCosts()
        self.sessions = RecentCosts()
        self.models: dict[str, ModelCohort] = {}
        """Model -> what runs with it usually come to; each is a row of its own."""

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
        return self.recent.to_bytes(), self.sessions.to_bytes()

    @classmethod
    def read(cls, tenant_id: str, workflow: str, fields: tuple[Any, ...]) -> "Cohort":
        """A cohort as its row holds it."""
        cohort = cls(tenant_id, workflow)
        cohort.recent, cohort.sessions = (RecentCosts.from_bytes(row) for row in fields)
        return cohort
