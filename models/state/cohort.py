"""The finished runs of one workflow: what a run of it usually costs."""

from typing import Any

from models.state.median import RecentCosts
from models.state.rows import Row


class Cohort(Row):
    """Costs of a workflow's last finished runs, by tenant and workflow."""

    __slots__ = ("recent", "tenant_id", "workflow")
    kind = "cohort"

    def __init__(self, tenant_id: str, workflow: str) -> None:
        super().__init__()
        self.tenant_id = tenant_id
        self.workflow = workflow
        self.recent = RecentCosts()

    def key_parts(self) -> tuple[str, ...]:
        return (self.tenant_id, self.workflow)

    def fields(self) -> tuple[Any, ...]:
        return (self.recent.to_bytes(),)

    @classmethod
    def read(cls, tenant_id: str, workflow: str, fields: tuple[Any, ...]) -> "Cohort":
        """A cohort as its row holds it."""
        cohort = cls(tenant_id, workflow)
        cohort.recent = RecentCosts.from_bytes(fields[0])
        return cohort
