"""The weekly review as data: what was spent, what it bought, what was stopped, and whether telling was worth it.

Money is in nano-dollars, times are epoch milliseconds. None says that a figure is not known, or does not exist, as the
cost of an accepted outcome where none was accepted: it is never written as 0. Names are as they came, hostile ones
included; what shows them cleans them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from alerting.review.week import Week
from schemas.alert import Alert
from schemas.control import Command, CommandAction, TargetType
from schemas.operator import OperatorMessage, Verdict
from schemas.policy import Severity
from schemas.rollup import Rollup

TOP = 5
"""How many tenants, workflows and so on a ranking names."""
SPIKE_RATIO = 3.0
"""A day is out of the ordinary when it costs more than so many times the median of the week before."""
MIN_USUAL_DAYS = 3
"""Days with spend that a median needs: fewer say nothing of what is usual."""
WORTH_A_LINE_NANOUSD = 10**9
"""A day, a new or a silent workflow below this is not named: cents are always out of the ordinary."""
LOW_ACCEPTANCE = 0.5
"""Accepted or edited, as a share of the reported outcomes; a workflow below it is named."""
MIN_OUTCOMES = 10
HIGH_RETRY_SHARE = 0.1
"""Retries as a share of the model calls; a workflow from here on is named."""
MIN_CALLS = 50
NOISY_RATE = 0.5
"""Noise as a share of useful and noise; a rule from here on is mostly noise."""
MIN_VERDICTS = 4
"""So many verdicts it takes to say so."""
EXPIRES_WITHIN_MS = 7 * 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class PolicyException:
    """A raised budget, from the policy or from an operator's order."""

    rule: str
    scope: str
    limit_nanousd: int
    until_ms: int
    why: str
    who: str


@dataclass(frozen=True, slots=True)
class Terms:
    """What of the policy in force a review needs."""

    exceptions: tuple[PolicyException, ...] = ()
    charges_unpriced: bool = False
    """Whether calls without a price are charged at the policy's pessimistic one; else they count as nothing."""
    rehearsed: bool = False
    """Whether the records are a backtest's, in which no agent could obey."""
    thresholds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Rule -> its settings that decide how much it tells, the first ones first, as in `multiplier = 5`."""


@dataclass(frozen=True, slots=True)
class Records:
    """What the topics hold, in any order: of rollups the last message of each key, of the others every message."""

    rollups: Iterable[Rollup] = ()
    alerts: Iterable[Alert] = ()
    commands: Iterable[Command] = ()
    orders: Iterable[OperatorMessage] = ()


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over hours, by the names of rollups.v1."""

    cost_nanousd: int = 0
    calls: int = 0
    tool_calls: int = 0
    retries: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    unpriced_calls: int = 0
    unpriced_tokens: int = 0
    runs_started: int = 0
    runs_finished: int = 0
    accepted: int = 0
    edited: int = 0
    rejected: int = 0
    escalated: int = 0

    @property
    def outcomes(self) -> int:
        """How many runs said what became of their output."""
        return self.accepted + self.edited + self.rejected + self.escalated


@dataclass(frozen=True, slots=True)
class Line:
    """A name with its spend and that of the week before."""

    name: str
    cost_nanousd: int
    before_nanousd: int | None


@dataclass(frozen=True, slots=True)
class Ranking:
    """The most expensive names, and all others as one number, so that the lines add up to the total."""

    lines: tuple[Line, ...] = ()
    others: int = 0
    others_nanousd: int = 0
    others_before_nanousd: int | None = None


@dataclass(frozen=True, slots=True)
class Daily:
    """What one workflow spent on each of the seven days; without a name, all others together."""

    workflow: str | None
    days_nanousd: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Workflow:
    """What the runs of a workflow cost and came to, over all its tenants."""

    name: str
    tenants: int
    totals: Totals
    acceptance: float | None
    """Accepted or edited, as a share of the reported outcomes."""
    reported: float | None
    """Reported outcomes, as a share of the runs that finished."""
    nanousd_per_accepted: int | None
    """All spend of the week by its accepted outcomes: what was rejected, or never reported, is paid for as well."""
    nanousd_per_accepted_or_edited: int | None
    nanousd_per_run: int | None
    """All spend of the week by the runs that began in it."""
    retry_share: float | None
    hours: int
    """Hours with spend."""
    median_hour_nanousd: int | None
    p99_hour_nanousd: int | None
    """Of the hours with spend, by nearest rank: totals are kept by the hour and not by the run."""


@dataclass(frozen=True, slots=True)
class Spike:
    """A tenant's workflow that had a day out of the ordinary; the day is its worst."""

    tenant_id: str
    workflow: str
    day_ms: int
    cost_nanousd: int
    usual_nanousd: int
    """The median of the days of the week before on which it spent anything."""
    ratio: float
    days: int
    """How many days of the week were out of the ordinary."""
    excess_nanousd: int
    """What these days cost beyond the usual."""


@dataclass(frozen=True, slots=True)
class Scope:
    """A tenant's workflow and an amount."""

    tenant_id: str
    workflow: str
    cost_nanousd: int


@dataclass(frozen=True, slots=True)
class Unpriced:
    """Calls of a tenant's workflow that nobody could put a price on."""

    tenant_id: str
    workflow: str
    calls: int
    tokens: int


Fate = Literal["stopped", "went on", "ended", "lifted", "not known"]
"""What became of a kill: acknowledged in time; calls or silence after it; the run ended without an answer; an operator
lifted it; nothing has been heard yet."""


@dataclass(frozen=True, slots=True)
class Kill:
    """A run, session or run tree that was ordered to stop."""

    tenant_id: str
    target_type: TargetType
    target_id: str
    rule: str
    incident_id: str
    issued_ms: int
    fate: Fate
    overshoot_nanousd: int | None
    """Spent after the order, so far as is known."""
    cause_to_stop_ms: int | None
    verdict: Verdict | None
    remark: str
    """What people said of it: why it was lifted, else why it was judged so."""
    who: str


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What people made of incidents. One whose verdict is `planned` was neither wanted nor wrong."""

    useful: int = 0
    noise: int = 0
    planned: int = 0
    unjudged: int = 0

    @property
    def judged(self) -> int:
        """How many the precision rests on."""
        return self.useful + self.noise

    @property
    def precision(self) -> float | None:
        """Useful as a share of useful and noise; None without a verdict."""
        return self.useful / self.judged if self.judged else None

    @property
    def noise_rate(self) -> float | None:
        """Noise as a share of useful and noise; None without a verdict."""
        return self.noise / self.judged if self.judged else None


@dataclass(frozen=True, slots=True)
class Incidents:
    """The incidents of a rule that opened within the week, by the worst severity each has reached."""

    rule: str
    severities: dict[Severity, int]
    verdicts: Verdicts
    open: int
    """How many were still open at the end."""
    thresholds: tuple[str, ...] = ()
    """Its settings that decide how much it tells, where the policy has the rule."""

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.severities.values())

    @property
    def pages(self) -> int:
        """Those that were bad enough to wake somebody."""
        return self.severities.get("critical", 0) + self.severities.get("error", 0)

    @property
    def notices(self) -> int:
        """All others."""
        return self.total - self.pages

    @property
    def is_noisy(self) -> bool:
        """Whether people call most of it noise, and often enough to say so."""
        return self.verdicts.judged >= MIN_VERDICTS and (self.verdicts.noise_rate or 0) >= NOISY_RATE


@dataclass(frozen=True, slots=True)
class SilenceGiven:
    """Somebody asked not to be told of something, a snooze included."""

    tenant_id: str
    who: str
    why: str
    match: dict[str, str]
    given_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Attention:
    """Something to look at, in words. `kind` says which sort, `nanousd` how much money it is about."""

    kind: str
    lead: str
    """What it is, in one sentence."""
    text: str
    """How much, and what to do."""
    nanousd: int


@dataclass(frozen=True, slots=True)
class PerAccepted:
    """What the runs of one owner, project and so on cost by their accepted or edited outputs."""

    name: str
    accepted: int
    cost_nanousd: int
    nanousd_per_accepted: int | None
    before_nanousd: int | None
    """The same of the week before."""


@dataclass(frozen=True, slots=True)
class RunCosts:
    """What single runs of a workflow cost."""

    workflow: str
    runs: int
    p99_nanousd: int
    """By nearest rank: of 100 runs or fewer, the dearest."""
    variation: float | None
    """The standard deviation as a share of the mean; None for a single run."""
    variation_before: float | None


@dataclass(frozen=True, slots=True)
class ModelShare:
    """Which share of a workflow's model spend goes to a model."""

    workflow: str
    model: str
    share: float
    before: float | None
    """None where the workflow spent nothing on models in the week before, or nothing is known of that."""


@dataclass(frozen=True, slots=True)
class AgentCosts:
    """What a run of an agent costs, and how often it calls again."""

    name: str
    runs: int
    nanousd_per_run: int
    retry_share: float | None


@dataclass(frozen=True, slots=True)
class PromptAcceptance:
    """A prompt version whose outputs are seldom accepted or edited."""

    name: str
    outcomes: int
    acceptance: float


@dataclass(frozen=True, slots=True)
class Margin:
    """What a tenant costs beside what it pays, in a period of its contract."""

    tenant_id: str
    period: str
    starts_on: str
    value_nanousd: int
    cost_nanousd: int


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Our figure for a model beside its provider's, over the days of the week that both speak of."""

    source: str
    model: str
    our_nanousd: int
    nanousd: int


@dataclass(frozen=True, slots=True)
class Detail:
    """What the wide event table knows beyond the topics."""

    cost_nanousd: int
    """All spend of the week that the table holds: less than the review's where the sink is behind."""
    rankings: Mapping[str, Ranking]
    """Dimension -> its most expensive names."""
    accepted: Mapping[str, tuple[PerAccepted, ...]]
    """Dimension -> its names by spend of their runs."""
    runs: tuple[RunCosts, ...]
    mix: tuple[ModelShare, ...]
    """The shares that have changed most."""
    agents: tuple[AgentCosts, ...]
    low_prompts: tuple[PromptAcceptance, ...]
    margins: tuple[Margin, ...]
    """The latest period of each tenant's contract, the worst first."""
    reconciled: tuple[Reconciled, ...]
    """Models whose figures differ most."""


@dataclass(frozen=True, slots=True)
class Review:
    """One week."""

    week: Week
    until_ms: int
    """What happened before it is counted: the week's end, or the moment of asking if that was earlier."""
    since_ms: int | None
    """The first hour on record, of any week; None if there is none."""
    comparable: bool
    """Whether the week before is on record from its first day, so that a change means something."""
    totals: Totals
    before: Totals | None
    """The week before, or its same stretch if the week is not over."""
    days: tuple[Daily, ...]
    before_days_nanousd: tuple[int, ...] | None
    hours_nanousd: tuple[tuple[int | None, ...], ...]
    """By day and hour of the day as the zone's clocks show it; None where that hour did not exist or is to come."""
    tenants: Ranking
    workflows: Ranking
    spikes: tuple[Spike, ...]
    new: tuple[Scope, ...]
    """Spent nothing in the week before."""
    silent: tuple[Scope, ...]
    """Spent nothing in this week, with what it spent in the one before."""
    outcomes: tuple[Workflow, ...]
    """Workflows that report outcomes, by spend."""
    low_acceptance: tuple[Workflow, ...]
    high_retries: tuple[Workflow, ...]
    expensive_runs: tuple[Workflow, ...]
    expensive_hours: tuple[Workflow, ...]
    unpriced: tuple[Unpriced, ...]
    unpriced_models: tuple[str, ...]
    """Models that the alerts about missing prices name."""
    charges_unpriced: bool
    kills: tuple[Kill, ...]
    commands: dict[CommandAction, int]
    incidents: tuple[Incidents, ...]
    on_trial: tuple[Incidents, ...]
    """Of rules in shadow mode: nobody was told."""
    verdicts: Verdicts
    silences: tuple[SilenceGiven, ...]
    exceptions_given: tuple[PolicyException, ...]
    exceptions_expiring: tuple[PolicyException, ...]
    """That end within seven days after `until_ms`."""
    rehearsed: bool
    """Of a backtest: no agent could obey, and what was spent after a kill is what it would have saved."""
    attention: tuple[Attention, ...] = ()
    """What to look at first, at most three."""
    detail: Detail | None = None
    """None where there is no wide event table to ask."""
    format: str = field(default="spendfuse.review.v1")

    @property
    def is_over(self) -> bool:
        """Whether the whole week is counted."""
        return self.until_ms >= self.week.end_ms

    @property
    def pages(self) -> int:
        """Incidents that were bad enough to wake somebody."""
        return sum(one.pages for one in self.incidents)

    @property
    def overshoot_nanousd(self) -> int | None:
        """What was spent after the kills of which that is known; None if it is known of none."""
        known = [kill.overshoot_nanousd for kill in self.kills if kill.overshoot_nanousd is not None]
        return sum(known) if known else None
