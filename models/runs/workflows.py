"""What the finished runs of a workflow come to, and the rules about it."""

from typing import Final

from models.commands.enforcement import Enforcement
from models.incidents.incident import Subject
from models.rules.finding import Finding
from models.state.partition import PartitionState
from models.state.spend.cohort import Cohort
from models.state.spend.model_cohort import figures_of
from models.state.tenant import Tenant
from models.state.units.route import Route
from models.state.units.runs import Run
from schemas.usage import ATTRIBUTION, UNATTRIBUTED

_PROMPT_VERSION: Final = ATTRIBUTION.index("prompt_version")
_ENVIRONMENT: Final = ATTRIBUTION.index("environment")


class Workflows:
    """The finished runs of a partition's workflows."""

    def __init__(self, state: PartitionState, enforcement: Enforcement) -> None:
        self._state = state
        self._enforcement = enforcement

    def run_finished(self, tenant: Tenant, run: Run, route: Route, at_ms: int) -> None:
        """A run has ended by itself: its cost becomes part of what is usual, and its workflow is looked at."""
        cohort, day_ms = route.cohort, self._day(at_ms)
        cohort.recent.add(run.cost_nanousd)
        cohort.level.add(run.cost_nanousd, _made_of(run), at_ms)
        cohort.begins_day = cohort.days.begins(day_ms)
        cohort.days.add(day_ms, run.cost_nanousd)
        self._state.touch(cohort)
        self._learn_models(cohort, run)
        self.judge(tenant, run, route, at_ms)
        cohort.begins_day = False

    def output_accepted(self, route: Route, at_ms: int) -> None:
        """Somebody has taken what a run made, as it was or edited."""
        route.cohort.days.accept(self._day(at_ms))
        self._state.touch(route.cohort)

    def _day(self, at_ms: int) -> int:
        return self._state.policy.calendar.window("day", at_ms).start_ms

    def _learn_models(self, cohort: Cohort, run: Run) -> None:
        """What the run came to becomes part of what is usual with the model that most of its cost went to, and what it
        sent to each of its models part of what is usual with that.
        """
        main = run.main_model()
        if main is None and (without := cohort.add_model("")) is not None:  # its cost is that of its tools
            without.recent.add(run.cost_nanousd)
            self._state.touch(without)
        for model, context in run.dearest_contexts().items():
            past = cohort.add_model(model)
            if past is None:
                continue
            if model == main:
                past.recent.add(run.cost_nanousd)
            if (figures := figures_of(context)) is not None:
                past.contexts.add(figures)
            self._state.touch(past)

    def judge(self, tenant: Tenant, run: Run, route: Route, at_ms: int) -> None:
        """Ask the rules about a workflow what is true of it; `run` is the one of whom there is news."""
        for rule in route.workflow_rules:
            for finding in rule.judge(route.cohort, self._state.now_ms):
                self._enforcement.apply(tenant, rule, finding, self._subject(tenant, run, route, finding), at_ms)
                if finding.memory is not None:
                    rule.remember(route.cohort, finding)
                    self._state.touch(route.cohort)

    def _subject(self, tenant: Tenant, run: Run, route: Route, finding: Finding) -> Subject:
        window = finding.window
        return Subject(
            key=("workflow", route.workflow) if window is None else ("workflow", route.workflow, window.start_ms),
            scope={"tenant_id": tenant.tenant_id, "workflow": route.workflow},
            owner=None if route.owner == UNATTRIBUTED else route.owner,
            run=run,
            window_start_ms=None if window is None else window.start_ms,
            window_end_ms=None if window is None else window.end_ms,
            ends_ms=self._state.now_ms + finding.lasts_ms if finding.lasts_ms else 0,
        )


def _made_of(run: Run) -> tuple[str | None, ...]:
    """What of a run may explain its cost, in the order of `DIMENSIONS`: the model that most of it went to, and what its
    latest model call said of the rest.
    """
    return run.told(_PROMPT_VERSION), run.main_model(), run.route_key[1][2], run.told(_ENVIRONMENT)
