"""The finished runs of one workflow with one model: what one of them usually costs, sends and gets."""

from typing import Any

from models.baselines.recent_costs import RecentCosts
from models.baselines.recent_figures import RecentFigures
from models.state.rows import Row
from models.state.units.context import Context

GROWTH, LARGEST, ANSWERS, INPUT, OUTPUT, REBUILDS, STILL = range(7)
"""Places of a context's figures: its largest input over its first, in hundredths; its largest input; its output per
million input tokens; input and output of a call, on average, in tokens; how often in a row it was rebuilt, and did not
grow.
"""


class ModelCohort(Row):
    """Costs of the last finished runs of which most went to one model, and figures of their contexts with it; and of
    the contexts that runs had with it beside another.
    """

    __slots__ = ("contexts", "model", "recent", "tenant_id", "workflow")
    kind = "model_cohort"

    def __init__(self, tenant_id: str, workflow: str, model: str) -> None:
        super().__init__()
        self.tenant_id = tenant_id
        self.workflow = workflow
        self.model = model
        self.recent = RecentCosts()
        self.contexts = RecentFigures(STILL + 1)

    def key_parts(self) -> tuple[str, ...]:
        return (self.tenant_id, self.workflow, self.model)

    def fields(self) -> tuple[Any, ...]:
        return self.recent.to_bytes(), self.contexts.to_bytes()

    @classmethod
    def read(cls, tenant_id: str, workflow: str, model: str, fields: tuple[Any, ...]) -> "ModelCohort":
        """A row's contents."""
        cohort = cls(tenant_id, workflow, model)
        costs, contexts = fields
        cohort.recent, cohort.contexts = RecentCosts.from_bytes(costs), RecentFigures.from_bytes(contexts)
        return cohort


def figures_of(context: Context) -> tuple[int, ...] | None:
    """What a finished context came to, None if it sent nothing."""
    if not context.first:
        return None
    largest, rebuilds = context.most_tokens(), context.rebuilds
    return (
        100 * largest // context.first,
        largest,
        context.answers(),
        context.input_tokens // context.calls,
        context.output_tokens // context.calls,
        0 if rebuilds is None else rebuilds.most_in_a_row,
        0 if rebuilds is None else rebuilds.most_still,
    )
