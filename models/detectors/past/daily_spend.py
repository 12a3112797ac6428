"""`daily_spend`: a day of a scope against its last active days, and against this day of the week and of the month."""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, ClassVar, Final, NamedTuple

from pydantic import Field

from models.baselines.daily_history import DailyHistory, median_of
from models.baselines.episodes import DAY_GAP_MS, joined
from models.calendar import Calendar, Window
from models.detectors.base import NEVER, ScopeDetector, register
from models.rules.finding import Finding
from models.state.spend.scopes import ClosedPeriods, Scope
from schemas.duration import DAY_MS
from schemas.money import format_usd, usd_to_nanousd
from schemas.policy import GroupBy, Period, RuleSettings, Severity, Steps, Usd

USUAL_DAYS: Final = 7
"""Active days whose median is what is usual."""


class DailySpendSettings(RuleSettings):
    """`daily_spend` in the policy file."""

    steps: ClassVar[Steps] = {"multiplier": (0.67, 1.5, 2), "min_usd": (0.5, 2, 5)}
    group_by: GroupBy = ["tenant_id"]
    multiplier: Annotated[Decimal, Field(gt=1, le=1000)] = Decimal(3)
    alike_multiplier: Annotated[Decimal, Field(ge=1, le=1000)] = Decimal("1.5")
    """A day must also cost more than this many times the dearest day like it: the same weekday of the last four weeks,
    or the same day of the last month."""
    min_usd: Usd = Decimal(10)
    """Below this a day is too cheap to tell anybody about."""
    min_active_days: Annotated[int, Field(ge=2, le=7)] = 4
    """Fewer active days than this say nothing of what is normal."""
    min_history_days: Annotated[int, Field(ge=2, le=28)] = 7
    """The first day known must lie this far back: what a weekend is like is not known before there was one."""
    severity: Severity = "warning"


class Limit(NamedTuple):
    """What a day may cost, and why."""

    amount_nanousd: int
    """The smallest spend that is too much."""
    median_nanousd: int
    active_days: int
    alike_nanousd: int


@register
class DailySpend(ScopeDetector[DailySpendSettings]):
    """Fires when a scope's running day has cost more than 3 x the median of its last 7 active days, and clearly more
    than the same day of the week or of the month. Days in a row are one incident.
    """

    name = "daily_spend"
    settings_class = DailySpendSettings
    defaults = ({"name": "daily-3x"}, {"name": "daily-3x-workflow", "group_by": ["tenant_id", "workflow"]})
    periods = ("day",)
    keeps_days = True
    has_baseline = True

    def __init__(self, settings: DailySpendSettings) -> None:
        super().__init__(settings)
        self.group_by = tuple(settings.group_by)
        self.factor = Fraction(settings.multiplier)
        self.alike_factor = Fraction(settings.alike_multiplier)
        self.floor_nanousd = max(1, usd_to_nanousd(settings.min_usd))

    def period(self) -> Period:
        return "day"

    def next_trip(self, scope: Scope) -> int:
        spent = scope.spend("day")
        limit = self._limit(scope, scope.window("day").start_ms, spent)
        if limit is None:
            return NEVER
        # What was found holds until the day ends: its figures are looked at again whenever they have doubled.
        return scope.base("day") + (limit.amount_nanousd if spent < limit.amount_nanousd else 2 * spent)

    def judge(self, scope: Scope) -> Iterable[Finding]:
        yield from self._judge(scope, scope.window("day"), scope.spend("day"), "today")

    def judge_closed(self, scope: Scope, closed: ClosedPeriods, at_ms: int, now_ms: int) -> Iterable[Finding]:
        """A closed day is judged by the days before itself."""
        if (found := closed.get("day")) is not None:
            yield from self._judge(scope, *found, "on an earlier day")

    def _judge(self, scope: Scope, day: Window, spent: int, words: str) -> Iterator[Finding]:
        if spent < self.floor_nanousd:
            return
        limit = self._limit(scope, day.start_ms, spent)
        if limit is not None and spent >= limit.amount_nanousd:
            yield self._breach(scope, day, spent, words, limit)

    def _limit(self, scope: Scope, day_ms: int, spent: int) -> Limit | None:
        """What the day that starts then may cost; None while too little is known, or if somebody has planned it.

        Days like it are asked for only once `spent` exceeds the multiple of the median; until then that is the limit.
        """
        days = days_of(scope)
        active = days.active(day_ms, USUAL_DAYS)
        if (
            len(active) < self.settings.min_active_days
            or not days.reaches_back(day_ms, self.settings.min_history_days * DAY_MS)
            or days.is_planned(day_ms)
        ):
            return None
        median = median_of(active)
        usual = max(self.floor_nanousd, int(self.factor * median) + 1)
        if spent < usual:
            return Limit(usual, median, len(active), 0)
        alike = days.alike(scope.meter.calendar, day_ms)
        return Limit(max(usual, int(self.alike_factor * alike) + 1), median, len(active), alike)

    def _breach(self, scope: Scope, day: Window, spent: int, words: str, limit: Limit) -> Finding:
        window = episode_of_days(scope, self.rule, day, scope.meter.calendar)
        ratio = round(spent / limit.median_nanousd, 2) if limit.median_nanousd else None
        usual = f", {ratio:,.3g} times the usual {format_usd(limit.median_nanousd)}" if ratio else ""
        days = round((day.end_ms - window.start_ms) / DAY_MS)
        return Finding(
            level=1.0,
            severity=self.settings.severity,
            value=spent,
            limit=limit.amount_nanousd - 1,
            baseline=limit.median_nanousd,
            ratio=ratio,
            unit="nanousd",
            window=window,
            ends_ms=day_after(scope.meter.calendar, window),
            hour="day_breach",
            evidence={
                "period": "day",
                "active_days": limit.active_days,
                "above_usual_nanousd": spent - limit.median_nanousd,
                "alike_nanousd": limit.alike_nanousd,
                "days_in_a_row": days,
            },
            summary=f"{' / '.join(scope.values)} has spent {format_usd(spent)} {words}{usual}"
            + (f"; the {_nth(days)} such day in a row" if days > 1 else ""),
            next_action=f"Look at {scope.spenders}; mark it as planned if somebody meant it.",
        )


def days_of(scope: Scope) -> DailyHistory:
    """The days of a scope whose rule keeps them."""
    assert scope.history is not None
    return scope.history.days


def episode_of_days(scope: Scope, rule: str, day: Window, calendar: Calendar) -> Window:
    """The days in a row, with this one, on which the rule has found something: they are one incident."""
    first_ms, last_ms = joined(scope.episodes.get(rule), day.start_ms, DAY_GAP_MS)
    return Window(first_ms, max(day.end_ms, calendar.window("day", last_ms).end_ms))


def day_after(calendar: Calendar, window: Window) -> int:
    """The end of the day after: until then another such day would belong to it."""
    return calendar.window("day", window.end_ms).end_ms


def _nth(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")
