"""`drift`: what a run of a workflow costs has shifted, against what its runs cost before."""

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, ClassVar, Final, NamedTuple

import numpy as np
from pydantic import Field

from models.baselines.cost_level import Change, CostLevel, Logs, Shift, cost_at, spread_of
from models.baselines.run_hours import WEEK_MS, SameHours
from models.baselines.shift_watch import last_alarm
from models.calendar import Window
from models.detectors.base import WorkflowDetector, register
from models.rules.finding import Finding
from models.state.spend.cohort import Cohort
from schemas.duration import DAY_MS
from schemas.money import format_usd, usd_to_nanousd
from schemas.policy import RuleSettings, Severity, Steps, Usd

FEWEST_AFTER: Final = 10
"""Runs after a change before anything is said of it."""
FEWEST_OPEN: Final = 20
"""Runs at the level of a shift that is told of before it may be found over."""
NEAR: Final = 30
"""A change so many runs from where a shift seems to begin is named as what came before it."""
LEAST_SHARE: Final = 5
"""One run in so many since a change has to have the new value: what is rarer is no new way of working."""
CONFIRMING: Final = 20
"""Runs after the test's alarm that have to bear it out: it was chosen among all moments, they were not."""
DOUBT: Final = 3
"""Standard errors by which a level must lie beyond that of other days."""
KNOWN_DAYS: Final = 2
"""Days of the same kind, on which runs finished at the same hours, before a shift that nothing explains is one."""


class DriftSettings(RuleSettings):
    """`drift` in the policy file."""

    steps: ClassVar[Steps] = {"min_change": (0.5, 1.5, 2), "min_usd": (0.5, 2, 5)}
    min_change: Annotated[float, Field(gt=0, le=10)] = 0.25
    """The smallest change worth a word, as a share of what a run cost before."""
    min_runs: Annotated[int, Field(ge=20, le=200)] = 50
    """Finished runs that say what is usual."""
    within_runs: Annotated[int, Field(ge=20, le=250)] = 100
    """For so many runs after a prompt version, model, route or environment has changed that change is suspected."""
    odds: Annotated[float, Field(ge=2, le=1e6)] = 50
    """How much likelier the runs since such a change must be with a shift than without."""
    odds_unexplained: Annotated[float, Field(ge=2, le=1e12)] = 1e4
    """The same where nothing is known to have changed: it could have been at any run."""
    min_usd: Usd = Decimal("0.5")
    """Below this, what the runs since have cost more or less is too little to tell anybody about."""
    normal_after_days: Annotated[int, Field(ge=1, le=30)] = 3
    """So long after a shift its level is the normal one."""
    severity: Severity = "warning"
    """Of runs that cost more; that they cost less is `info`."""


class Found(NamedTuple):
    """A shift of the level, in thousandths of the logarithm."""

    number: int
    """The first run after it."""
    runs: int
    """Runs after it, of these where something is known to have changed those with the new value."""
    before: float
    after: float
    sigma: float
    """Standard deviation of the runs before."""
    change: Change | None


@register
class Drift(WorkflowDetector[DriftSettings]):
    """Fires when the runs of a workflow cost a quarter more or less than before, once, and names what changed nearest
    before: prompt version, model, route or environment.
    """

    name = "drift"
    settings_class = DriftSettings
    defaults = ({"name": "drift"},)

    def __init__(self, settings: DriftSettings) -> None:
        super().__init__(settings)
        self.smallest = 1000 * math.log1p(settings.min_change)
        self.floor_nanousd = usd_to_nanousd(settings.min_usd)

    def judge(self, cohort: Cohort, now_ms: int) -> Iterable[Finding]:
        level, shift = cohort.level, cohort.level.shifts.get(self.rule)
        is_open = shift is not None and now_ms < shift.open_until_ms
        found = self._find(level, 0 if shift is None else shift.number, now_ms, is_open=is_open)
        if found is None:
            return
        if shift is not None and is_open and abs(found.after - shift.before) < abs(found.after - found.before) / 2:
            yield self._over(shift, found, now_ms)
            return
        finding = self._shifted(cohort, found, now_ms)
        if abs(finding.evidence["extra_nanousd"]) >= self.floor_nanousd:
            yield finding

    def remember(self, cohort: Cohort, finding: Finding) -> None:
        """The level after the shift is the one to go by."""
        assert isinstance(finding.memory, Shift)
        cohort.level.shifts[self.rule] = finding.memory

    def _over(self, shift: Shift, found: Found, now_ms: int) -> Finding:
        """Runs cost again what they did before the shift that is told of."""
        return Finding(
            level=0.0,
            severity="info",
            value=cost_at(found.after),
            unit="nanousd",
            window=Window(shift.at_ms, shift.open_until_ms),
            evidence={"back_to_normal": True},
            memory=Shift(found.number, now_ms, found.before, now_ms),
            summary="Runs cost again what they did before",
            next_action="Nothing.",
        )

    def _shifted(self, cohort: Cohort, found: Found, now_ms: int) -> Finding:
        level, change = cohort.level, found.change
        before, after, runs = cost_at(found.before), cost_at(found.after), found.runs
        extra = runs * (after - before)
        share = after / before - 1
        than = "more" if extra > 0 else "less"
        since = f" since its {_words(change)}" if change else ""
        window = Window(level.at_ms(found.number), now_ms + self.settings.normal_after_days * DAY_MS)
        return Finding(
            level=1.0,
            severity=self.settings.severity if extra > 0 else "info",
            value=after,
            limit=round(before * (1 + self.settings.min_change)) if extra > 0 else None,
            baseline=before,
            ratio=round(after / before, 2),
            unit="nanousd",
            window=window,
            memory=Shift(found.number, window.start_ms, found.before, window.end_ms),
            evidence={
                "runs_since": runs,
                "extra_nanousd": extra,
                **({"since_about_ms": window.start_ms} if change is None else _evidence(change)),
            },
            summary=(
                f"A run of {cohort.workflow} costs {format_usd(after)}, {abs(share):.0%} {than} than before "
                f"({format_usd(before)}){since}: {runs} runs, {format_usd(abs(extra))} {than} in all"
            ),
            next_action=_next_action(change, is_dearer=extra > 0),
        )

    def _find(self, level: CostLevel, start: int, now_ms: int, *, is_open: bool) -> Found | None:
        start = max(start, level.first)
        # Asked at every run: what it finds must not depend on what else was found.
        alarm = last_alarm(
            level, self.rule, start, self.settings.min_runs, self.smallest, self.settings.odds_unexplained
        )
        found = self._after_a_change(level, start, FEWEST_OPEN if is_open else self.settings.min_runs)
        if found is not None:
            return None if self._is_of_its_kind_of_day(found, self._same_hours(level, found, now_ms)) else found
        if level.count != alarm + CONFIRMING or not alarm:
            return None
        found = self._at_no_known_moment(level, start, alarm)
        if found is None or (found.change is not None and found.change.number <= start):
            return None  # that change has made the level in force, little by little
        return None if self._is_usual_at_this_time(level, found, now_ms) else found

    def _after_a_change(self, level: CostLevel, start: int, fewest: int) -> Found | None:
        """The shift that a known change has led to, if its runs speak for one. What is tried on some of the runs first
        is held against those before all the same.
        """
        for change in level.changes():
            if level.count - change.number < FEWEST_AFTER or change.number - start < fewest:
                continue
            after, runs = level.with_change(change)
            if not FEWEST_AFTER <= len(after) <= self.settings.within_runs or LEAST_SHARE * len(after) < runs:
                continue
            before = level.logs(start, change.number)
            if (found := self._shift(before, after, change.number, change)) is not None:
                return found
        return None

    def _at_no_known_moment(self, level: CostLevel, start: int, alarm: int) -> Found | None:
        """The shift that the test has found, if the runs since then bear it out. It began where the runs before and
        after differ most.
        """
        logs = level.logs(start, level.count)
        drawn_in = spread_of(logs).clip(logs)
        runs = np.arange(1, len(logs))
        sums = np.cumsum(drawn_in)[:-1]
        rest = len(logs) - runs
        gap = (drawn_in.sum() - sums) / rest - sums / runs
        cut = int(np.argmax((gap**2 * runs * rest)[: alarm - start - 1])) + 1
        if cut < FEWEST_AFTER:
            return None
        change = level.nearest_change(start + cut, NEAR)
        if self._shift(logs[:cut], logs[alarm - start :], start + cut, change) is None:
            return None
        return self._shift(logs[:cut], logs[cut:], start + cut, change)

    def _shift(self, before: Logs, after: Logs, number: int, change: Change | None) -> Found | None:
        """The shift between two stretches of runs, if they are so much likelier with one as the rule asks."""
        spread = spread_of(before)
        mean_before, mean_after = spread.middle(before), spread.middle(after)
        # The logarithm of how much likelier these means are with the smallest shift than with none.
        weight = len(before) * len(after) / (len(before) + len(after)) * self.smallest / spread.sigma**2
        if weight * (abs(mean_after - mean_before) - self.smallest / 2) < math.log(self.settings.odds):
            return None
        return Found(number, len(after), mean_before, spread_of(after).middle(after), spread.sigma, change)

    def _same_hours(self, level: CostLevel, found: Found, now_ms: int, fewest: int = 1) -> list[SameHours]:
        """The hours of a shift on other days, since the level in force began."""
        shift = level.shifts.get(self.rule)
        return level.hours.same_hours(level.at_ms(found.number), now_ms, fewest, 0 if shift is None else shift.at_ms)

    def _is_of_its_kind_of_day(self, found: Found, days: list[SameHours]) -> bool:
        """Whether the same hours of other such days, workdays or of a weekend, cost more than half as much more."""
        runs = sum(day.runs for day in days if day.same_kind)
        if runs < FEWEST_OPEN:
            return False
        usual = sum(day.runs * day.mean for day in days if day.same_kind) / runs
        return abs(found.after - usual) < abs(found.after - found.before) / 2

    def _is_usual_at_this_time(self, level: CostLevel, found: Found, now_ms: int) -> bool:
        """Whether the hours of the shift have cost as much on two other days: a weekend, a night or a batch is no news.
        What nothing explains may be one of these as long as too few days are known.
        """
        start_ms, runs = level.at_ms(found.number), level.count - found.number
        if now_ms - start_ms > WEEK_MS:
            return False
        days = self._same_hours(level, found, now_ms, FEWEST_AFTER // 2)
        fewest = KNOWN_DAYS if now_ms - start_ms <= DAY_MS else 1
        if sum(day.same_kind for day in days) < fewest:
            return True
        sign = 1 if found.after > found.before else -1
        reach = sorted(sign * day.mean + DOUBT * found.sigma * math.sqrt(1 / runs + 1 / day.runs) for day in days)
        return reach[-fewest] > sign * found.after - self.smallest / 2


def _words(change: Change) -> str:
    """What has changed: `prompt_version went from v1 to v2`."""
    return f"{change.dimension} went from {change.before or 'none'} to {change.value or 'none'}"


def _evidence(change: Change) -> dict[str, str | int]:
    return {
        "changed": change.dimension,
        "changed_from": change.before,
        "changed_to": change.value,
        "changed_ms": change.at_ms,
    }


def _next_action(change: Change | None, *, is_dearer: bool) -> str:
    if not is_dearer:
        return "Nothing, if somebody meant it; see whether the results are as good as before."
    if change is None:
        return "Look at what the last runs do that those before did not: more calls, more context, retries."
    return (
        f"Run the same task with {change.before or 'none'} and {change.value or 'none'}; go back if it is not worth it."
    )
