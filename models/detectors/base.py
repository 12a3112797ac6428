"""How a detector plugs in: it says at which total it wants to be woken, and is left alone until then.

A detector is one file in a folder of this one. Its class is registered by `@register`, which makes it known to the
policy file, the generic checks and the README's table. The kinds differ in what they watch:

ScopeDetector     spend of a scope (`models.state.spend.scopes.Scope`); woken when the scope's total reaches `next_trip`
UnitDetector      counters of a run, session or run tree (`models.state.units.unit.Unit`); woken at the `trips` it names
SequenceDetector  an agent's recent calls (`models.state.units.call_history.CallHistory`); asked where they recur, fail
                  or finish
ContextDetector   what a run sends (`models.state.units.context.Context`); woken at calls of the sizes it names, and
                  where a large context does not go on growing
WorkflowDetector  what the finished runs of a workflow cost (`models.state.spend.cohort.Cohort`); asked when one has
                  finished
ResultDetector    what finished runs have come to (`models.state.spend.results.ResultBook`); asked when hours are over
EscalationDetector  premium calls of runs that did not begin with one (`models.state.spend.escalations.Escalations`)
CommandDetector   commands that were given (`models.commands.standing.StandingCommand`)
DataQualityDetector  the day's tally of records with something wrong (`models.state.data_quality.Tally`)
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, ClassVar, Final, Generic, Literal, NamedTuple, TypeVar

from models.commands.standing import StandingCommand
from models.identity import derived_id
from models.prices.book import PriceBook
from models.rules.finding import Finding
from models.state.data_quality import Kind, Tally
from models.state.spend.cohort import Cohort
from models.state.spend.escalations import Escalations
from models.state.spend.model_cohort import ModelCohort
from models.state.spend.results import ResultBook
from models.state.spend.scopes import ClosedPeriods, Scope
from models.state.units.call_history import CallHistory
from models.state.units.context import Context
from models.state.units.failing import FailingCall
from models.state.units.unit import NO_TRIP, Counter, Unit, UnitKind
from schemas.policy import Action, Limit, Period, PolicyHeader, RuleSettings, Severity
from schemas.usage import LlmCall, ToolCall

S = TypeVar("S", bound=RuleSettings)
D = TypeVar("D", bound="type[Detector[Any]]")

NEVER: Final = NO_TRIP

REGISTRY: dict[str, "type[Detector[Any]]"] = {}
"""Policy table -> detector. Filled by `register` when `models.detectors` is imported."""


class Detector(ABC, Generic[S]):
    """One rule of the policy at work: immutable, and without a state of its own."""

    name: ClassVar[str]
    tables: ClassVar[tuple[str, ...]] = ()
    """Names of its table in the policy file, where they differ from `name`."""
    settings_class: ClassVar[type[RuleSettings]]
    defaults: ClassVar[tuple[Mapping[str, Any], ...]] = ()
    """The rules in force when the policy file is empty."""
    follows_limits: ClassVar[bool] = False
    """Whether its findings name every limit, reached or not: a raised one ends an incident, and may open it again."""
    why_off: ClassVar[str] = "it needs a limit of yours"
    """Why none is in force when the policy file is empty, for one without `defaults`."""
    always_on: ClassVar[bool] = False
    """In force by its defaults even when the policy file names other rules: it guards the service's own promises."""

    def __init__(self, settings: S) -> None:
        self.settings = settings
        self.rule = settings.name

    @property
    def limit_action(self) -> Action | None:
        """What `enforce` orders when the finding is sure."""
        return None

    @classmethod
    def of(cls, settings: S, header: PolicyHeader) -> "Detector[S]":
        """The rule that a table of the policy describes; `header` is what stands above all tables."""
        del header
        return cls(settings)

    @classmethod
    def is_asked_for(cls, header: PolicyHeader) -> bool:
        """Whether its defaults are in force beside other rules because the header calls for them."""
        del header
        return False

    def boundaries_ms(self) -> Iterable[int]:
        """Moments at which its limits change by themselves."""
        return ()

    def severity_at(self, level: float) -> Severity:
        """`info` below 0.8, `warning` below 1, and from there what the rule says."""
        if level >= 1:
            return self.settings.severity
        return "warning" if level >= 0.8 else "info"


class ScopeDetector(Detector[S]):
    """Watches what a scope spends."""

    group_by: tuple[str, ...]
    periods: tuple[Period, ...] = ()
    """Calendar periods whose spend it needs."""
    keeps_history: bool = False
    """Whether it needs the scope's last 168 hours."""
    keeps_days: bool = False
    """Whether it needs the scope's last days."""
    has_baseline: bool = False
    """Whether it takes what the scope has spent for normal: an hour that somebody planned is not."""
    renews: bool = False
    """Whether an accepted output of a run that spends here lets the scope begin anew."""
    splits_owners: bool = False
    """Whether it says which of several owners spent what."""
    asks_parent: bool = False
    """Whether it also needs those of the scope without its last dimension."""

    @abstractmethod
    def next_trip(self, scope: Scope) -> int:
        """The `scope.total_nanousd` at which to wake it, `NEVER` for not in this period."""

    @abstractmethod
    def judge(self, scope: Scope) -> Iterable[Finding]:
        """What is true of the scope now. Asked when the trip is reached and whenever something else may have changed;
        reads and returns, nothing else. Every finding names its `window`.
        """

    def judge_closed(self, scope: Scope, closed: ClosedPeriods, at_ms: int, now_ms: int) -> Iterable[Finding]:
        """What is true of the periods around `at_ms` that the scope has closed, to which spend was added.

        One that ends after `now_ms` is the present one: a message whose clock runs ahead has closed it.
        """
        return ()

    def judge_hour(self, scope: Scope) -> Iterable[Finding]:
        """What is true now that an hour in which the scope spent is over."""
        return ()

    def limit_ends_ms(self, scope: Scope) -> int:
        """When the limit that the scope has now ends by itself, 0 for never."""
        return 0

    def is_exhausted(self, scope: Scope) -> bool:
        """Whether its limit is reached, so that whoever spends here is to be stopped, by `limit_action`."""
        return False

    def standing(self, scope: Scope, now_ms: int) -> tuple[int, int] | None:
        """What is spent of a limit, and the limit, in nano-dollars, as they stand then; None where it has none."""
        return None

    def period(self) -> Period:
        """The calendar period its incidents belong to."""
        return "hour"


class UnitDetector(Detector[S]):
    """Watches the counters of one run, session or run tree."""

    per: UnitKind = "run"

    def standing(self, unit: Unit, now_ms: int) -> Iterable[tuple[Counter, int, int]]:
        """Counter, what the unit has used of it and what it may use, for each limit as it stands at that time."""
        return ()

    @abstractmethod
    def trips(self, unit: Unit, cohort: Cohort | None) -> Mapping[Counter, int]:
        """Counter -> the value at which to wake it next. Counters it leaves out do not wake it."""

    @abstractmethod
    def judge(self, unit: Unit, cohort: Cohort | None) -> Iterable[Finding]:
        """What is true of the unit now; reads and returns, nothing else."""


class SequenceDetector(Detector[S]):
    """Watches the order of a run's calls."""

    calls: ClassVar[tuple[Literal["tool", "model"], ...]]

    @property
    def limit_action(self) -> Action | None:
        return commanded(getattr(self.settings, "action", "alert"))

    def finishes(self, tool: str) -> bool:
        """Whether a call of that tool says that its agent is done, as the rule's settings have it."""
        return False

    def keeps_failing(self, call: FailingCall) -> Finding | None:
        """What is true of a call that fails in run after run, with agent after agent, or round after round."""
        return None

    @abstractmethod
    def step(self, history: CallHistory, call: Any) -> Finding | None:
        """Asked at every call that recurs, was sent before, failed or finishes, once `history` has taken it in: bounded
        work.
        """


class Look(NamedTuple):
    """A context at a call that is worth a look."""

    context: Context
    call: LlmCall
    """Taken in already."""
    cost_nanousd: int
    """Of this call."""
    past: ModelCohort | None
    """What is known of the workflow's finished runs with this model."""
    prices: PriceBook


class ContextDetector(Detector[S]):
    """Watches what the calls of a run send and get, for each of its agents and models apart."""

    @property
    @abstractmethod
    def floors(self) -> tuple[int, int]:
        """Input and output of a call below which it has nothing to say, whatever was before; `NEVER` for not at all."""

    @abstractmethod
    def trips(self, look: Look) -> tuple[int, int]:
        """Input and output of a call from which on to wake it, `NEVER` for not at all."""

    @abstractmethod
    def judge(self, look: Look) -> Iterable[Finding]:
        """What is true of the run now; reads and returns, nothing else."""


class WorkflowDetector(Detector[S]):
    """Watches what the finished runs of a workflow come to. Its findings are about the workflow, never about a run."""

    @abstractmethod
    def judge(self, cohort: Cohort, now_ms: int) -> Iterable[Finding]:
        """What is true of the workflow now that a run has finished, or its outcome is known; reads and returns, nothing
        else. Every finding says how long it lasts: `lasts_ms`, or `window`.
        """

    def remember(self, cohort: Cohort, finding: Finding) -> None:
        """Enter into the cohort the `memory` of a finding that has been applied."""
        raise NotImplementedError


class ResultDetector(Detector[S]):
    """Watches what the finished runs of a workflow have come to, or of one prompt version or feature of it."""

    per: str = "workflow"
    """What a book is about: `workflow`, a field of attribution, or `expected_outcome`."""
    grace_ms: int = 0
    """How long after its end a run may say what became of it; after that nobody will."""

    @cached_property
    def book_id(self) -> str:
        """What tells its books from those of rules that cut runs otherwise, or match others."""
        return derived_id(self.per, *(f"{name}={value}" for name, value in sorted(self.settings.match.items())))[:8]

    @abstractmethod
    def judge(self, book: ResultBook, now_ms: int) -> Iterable[Finding]:
        """What is true now that an hour is over; reads and returns, nothing else. Every finding says how long it lasts:
        `lasts_ms`, or `ends_ms`.
        """

    def usual_nanousd(self, book: ResultBook, now_ms: int) -> int:
        """What a run costs in this book that comes to what it should, 0 where that is not known or of no interest."""
        return 0

    def is_dear(self, usual_nanousd: int, cost_nanousd: int) -> bool:
        """Whether a run has cost far more than `usual_nanousd`, as worked out last."""
        return False


class EscalationDetector(Detector[S]):
    """Watches premium calls of runs that did not begin with one, or were announced on another route."""

    @abstractmethod
    def judge(self, day: Escalations) -> Finding | None:
        """What the day's escalations of a workflow come to, now that one more came without a reason."""


class CommandDetector(Detector[S]):
    """Watches whether commands are obeyed."""

    @abstractmethod
    def call_after(
        self, command: StandingCommand, call: LlmCall | ToolCall, overshoot_nanousd: int, now_ms: int
    ) -> Finding | None:
        """A call that a killed target made all the same; it was appended at `now_ms`."""

    @abstractmethod
    def unanswered(self, command: StandingCommand, overshoot_nanousd: int) -> Finding | None:
        """No answer by the deadline."""


class DataQualityDetector(Detector[S]):
    """Watches what a tenant's records of a day have wrong."""

    kinds: ClassVar[tuple[Kind, ...]]

    @abstractmethod
    def judge(self, kind: Kind, tally: Tally, *, out_of_reach: bool) -> Finding | None:
        """What the day's records of that kind come to; `out_of_reach`: enforced limits in money cannot see the last."""


def register(detector: D) -> D:
    """Make a detector known under its policy tables."""
    for table in detector.tables or (detector.name,):
        if table in REGISTRY:
            raise ValueError(f"two detectors claim the policy table {table!r}")
        REGISTRY[table] = detector
    return detector


def commanded(limit: Limit) -> Action | None:
    """The command a rule's `at_limit` or `action` stands for; `alert` is none."""
    return None if limit == "alert" else limit
