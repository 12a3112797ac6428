"""`trend`: what a workflow spends per finished run, or per accepted output, rises week by week."""

import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Annotated, ClassVar, Final, NamedTuple

from pydantic import Field

from models.baselines.run_days import RunDay, together
from models.detectors.base import WorkflowDetector, register
from models.rules.finding import Finding
from models.state.spend.cohort import Cohort
from schemas.duration import DAY_MS, HOUR_MS
from schemas.money import format_usd, usd_to_nanousd
from schemas.policy import RuleSettings, Severity, Steps, Usd

WEEKS: Final = 3
WEEK_MS: Final = 7 * DAY_MS
STEP: Final = 0.25
"""Of the whole rise, what each week must have its part of at least: a single step is no trend, and `drift` tells it."""
DOUBT: Final = 4.0
"""Standard errors by which the last week must lie above the first."""
MOST_MORE_RUNS: Final = 1.2
"""With more runs than this many times those of the first week, something else has changed."""


class TrendSettings(RuleSettings):
    """`trend` in the policy file."""

    steps: ClassVar[Steps] = {"min_rise": (0.5, 1.5, 2), "min_usd": (0.5, 2, 5)}
    min_rise: Annotated[float, Field(gt=0, le=10)] = 0.2
    """By so much, as a share, what is spent per run or output must have risen in three weeks."""
    min_runs: Annotated[int, Field(ge=10, le=100_000)] = 30
    """Finished runs, or accepted outputs, that each of the weeks must have."""
    min_usd: Usd = Decimal(5)
    """Below this, what the last week has cost more is too little to tell anybody about."""
    severity: Severity = "info"


class Weeks(NamedTuple):
    """Three weeks in a row, each with what is spent per run or output, as a logarithm, and how sure that is."""

    costs: tuple[float, ...]
    variances: tuple[float, ...]
    counts: tuple[int, ...]

    def is_rising(self, least: float) -> bool:
        """Whether it rises from week to week, by `least` in all, and more than chance explains."""
        rise = self.costs[-1] - self.costs[0]
        steps = [after - before for before, after in zip(self.costs, self.costs[1:], strict=False)]
        error = math.sqrt(self.variances[0] + self.variances[-1])
        return rise >= max(least, DOUBT * error) and min(steps) >= STEP * rise


@register
class Trend(WorkflowDetector[TrendSettings]):
    """Tells when what a workflow spends per finished run, or per accepted output, has risen for three weeks in a row,
    by a fifth in all, without more runs.
    """

    name = "trend"
    settings_class = TrendSettings
    defaults = ({"name": "trend"},)

    def __init__(self, settings: TrendSettings) -> None:
        super().__init__(settings)
        self.least = math.log1p(settings.min_rise)
        self.floor_nanousd = usd_to_nanousd(settings.min_usd)

    def judge(self, cohort: Cohort, now_ms: int) -> Iterable[Finding]:
        if not cohort.begins_day:
            return
        weeks = _weeks(cohort.days.closed())
        if len(weeks) < WEEKS or weeks[-1].runs > MOST_MORE_RUNS * weeks[0].runs:
            return
        for what, per in (("finished run", _per_run), ("accepted output", _per_accepted)):
            found = per(weeks)
            if found is not None and min(found.counts) >= self.settings.min_runs and found.is_rising(self.least):
                finding = self._rising(cohort.workflow, what, found)
                if finding.evidence["extra_nanousd"] >= self.floor_nanousd:
                    yield finding
                    return  # outputs cost more because runs do

    def _rising(self, workflow: str, what: str, found: Weeks) -> Finding:
        costs = [round(math.exp(cost)) for cost in found.costs]
        share = costs[-1] / costs[0] - 1
        extra = found.counts[-1] * (costs[-1] - costs[0])
        return Finding(
            level=1.0,
            severity=self.settings.severity,
            value=costs[-1],
            limit=round(costs[0] * (1 + self.settings.min_rise)),
            baseline=costs[0],
            ratio=round(costs[-1] / costs[0], 2),
            unit="nanousd",
            aspect=what.replace(" ", "-"),
            lasts_ms=8 * DAY_MS,
            evidence={"weeks_nanousd": costs, "counts": list(found.counts), "extra_nanousd": extra},
            summary=(
                f"{workflow} spends more per {what} every week: {', '.join(format_usd(cost) for cost in costs)}, "
                f"+{share:.0%} without more runs; that is {format_usd(extra)} in the last week"
            ),
            next_action="Compare a run of this week with one of three weeks ago: more context, calls or retries?",
        )


def _weeks(days: Sequence[RunDay]) -> list[RunDay]:
    """The last three weeks up to the last of the days, oldest first, each as one; fewer if one is idle."""
    weeks = []
    for back in range(WEEKS - 1, -1, -1) if days else ():
        # The hour is for days that begin one earlier or later, since clocks were changed.
        end_ms = days[-1].start_ms - back * WEEK_MS + DAY_MS - HOUR_MS
        if week := [day for day in days if end_ms - WEEK_MS <= day.start_ms < end_ms]:
            weeks.append(together(week))
    return weeks


def _per_run(weeks: Sequence[RunDay]) -> Weeks | None:
    """The typical run of each week: the mean of logarithms, which no single run decides."""
    if not all(week.runs for week in weeks):
        return None
    return Weeks(
        tuple(week.mean / 1000 for week in weeks),
        tuple(week.variance / 1e6 / week.runs for week in weeks),
        tuple(week.runs for week in weeks),
    )


def _per_accepted(weeks: Sequence[RunDay]) -> Weeks | None:
    """All that was spent by each accepted output of the week; nothing is said of a week without any."""
    if not all(week.runs and week.accepted for week in weeks):
        return None
    return Weeks(
        tuple(math.log(week.cost_nanousd / week.accepted) for week in weeks),
        # Of a count, and of a sum of costs whose logarithms have that variance.
        tuple(1 / week.accepted + math.expm1(min(week.variance / 1e6, 5.0)) / week.runs for week in weeks),
        tuple(week.accepted for week in weeks),
    )
