"""What follows from an attribution: scopes, cohort, rules. Made by `models.attribution`, kept by runs."""

from collections.abc import Iterable
from typing import Any

from models.detectors.base import (
    EscalationDetector,
    ResultDetector,
    SequenceDetector,
    UnitDetector,
    WorkflowDetector,
)
from models.state.spend.cohort import Cohort
from models.state.spend.scopes import Scope
from models.state.spend.totals import HourTotals
from models.state.units.unit import UnitKind
from schemas.usage import UNATTRIBUTED

KINDS: tuple[UnitKind, ...] = ("run", "session", "run_tree")


class Route:
    """Everything that follows from a message's attribution, worked out once."""

    __slots__ = (
        "cohort", "escalation_rules", "is_attributed", "model_rules", "owner", "result_rules", "scopes", "tool_rules",
        "totals", "unit_rules", "without_call", "workflow", "workflow_rules",
    )  # fmt: skip

    def __init__(
        self,
        owner: str,
        scopes: tuple[Scope, ...],
        cohort: Cohort,
        unit_rules: Iterable[UnitDetector[Any]],
        sequence_rules: Iterable[SequenceDetector[Any]],
        workflow_rules: Iterable[WorkflowDetector[Any]],
        result_rules: Iterable[ResultDetector[Any]],
        escalation_rules: Iterable[EscalationDetector[Any]],
    ) -> None:
        self.owner = owner
        self.scopes = scopes
        self.cohort = cohort
        self.workflow = cohort.workflow
        self.is_attributed = UNATTRIBUTED not in (owner, cohort.workflow)
        """Whether spend here names its owner and its workflow."""
        self.without_call: Route | None = None
        """The route of what is no model call but has the same attribution, once it was asked for."""
        self.totals: HourTotals | None = None
        rules = tuple(unit_rules)
        self.unit_rules = {kind: tuple(rule for rule in rules if rule.per == kind) for kind in KINDS}
        """Kind of unit -> the rules that watch it."""
        ordered = tuple(sequence_rules)
        self.tool_rules = tuple(rule for rule in ordered if "tool" in rule.calls)
        self.model_rules = tuple(rule for rule in ordered if "model" in rule.calls)
        self.workflow_rules = tuple(workflow_rules)
        self.result_rules = tuple(result_rules)
        self.escalation_rules = tuple(escalation_rules)
