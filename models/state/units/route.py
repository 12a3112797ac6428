"""What follows from an attribution: scopes, cohort, rules. Made by `models.attribution`, kept by runs."""

from typing import Any, NamedTuple

from models.detectors.base import (
    NEVER,
    ContextDetector,
    EscalationDetector,
    ResultDetector,
    ScopeDetector,
    SequenceDetector,
    UnitDetector,
    WorkflowDetector,
)
from models.state.spend.cohort import Cohort
from models.state.spend.scopes import Scope
from models.state.spend.totals import HourTotals
from models.state.spend.unsent import Part
from models.state.units.unit import UnitKind
from schemas.control import TargetType
from schemas.usage import UNATTRIBUTED

KINDS: tuple[UnitKind, ...] = ("run", "session", "run_tree")


class RouteRules(NamedTuple):
    """The rules that look at what comes on a route."""

    units: tuple[UnitDetector[Any], ...] = ()
    sequences: tuple[SequenceDetector[Any], ...] = ()
    contexts: tuple[ContextDetector[Any], ...] = ()
    workflows: tuple[WorkflowDetector[Any], ...] = ()
    results: tuple[ResultDetector[Any], ...] = ()
    escalations: tuple[EscalationDetector[Any], ...] = ()


class RouteLimits(NamedTuple):
    """What limits the runs on a route, and what may be commanded beside themselves."""

    rules: dict[UnitKind, tuple[UnitDetector[Any], ...]]
    """Kind of unit -> the rules that limit it."""
    budgets: tuple[tuple[Scope, ScopeDetector[Any]], ...]
    targets: tuple[tuple[TargetType, str], ...]
    """The wider targets that hold them, the nearest first."""


class Route:
    """Everything that follows from a message's attribution, worked out once."""

    __slots__ = (
        "across", "cohort", "context_floors", "context_rules", "escalation_rules", "is_attributed", "limits",
        "model_rules", "owner", "result_rules", "scopes", "tool_rules", "totals", "unit_rules", "watches_calls",
        "without_call", "workflow", "workflow_rules",
    )  # fmt: skip

    def __init__(
        self,
        owner: str,
        scopes: tuple[Scope, ...],
        cohort: Cohort,
        rules: RouteRules,
        across: tuple[Part, ...] = (),
    ) -> None:
        self.owner = owner
        self.scopes = scopes
        self.across = across
        """The scopes across tenants in which it counts as well."""
        self.cohort = cohort
        self.workflow = cohort.workflow
        self.is_attributed = UNATTRIBUTED not in (owner, cohort.workflow)
        """Whether spend here names its owner and its workflow."""
        self.without_call: Route | None = None
        """The route of what is no model call but has the same attribution, once it was asked for."""
        self.totals: HourTotals | None = None
        self.limits: RouteLimits | None = None
        """What limits the runs on it, once somebody has asked for it."""
        self.unit_rules = {kind: tuple(rule for rule in rules.units if rule.per == kind) for kind in KINDS}
        """Kind of unit -> the rules that watch it."""
        self.tool_rules = tuple(rule for rule in rules.sequences if "tool" in rule.calls)
        self.model_rules = tuple(rule for rule in rules.sequences if "model" in rule.calls)
        self.context_rules = rules.contexts
        floors = [rule.floors for rule in rules.contexts]
        self.context_floors = (
            min([tokens for tokens, _ in floors], default=NEVER), min([tokens for _, tokens in floors], default=NEVER)
        )  # fmt: skip
        """Input and output of a model call below which none of them has anything to say."""
        self.watches_calls = bool(rules.sequences)
        """Whether model calls are remembered: rules about tools need to know which of them one answer has asked for."""
        self.workflow_rules = rules.workflows
        self.result_rules = rules.results
        self.escalation_rules = rules.escalations
