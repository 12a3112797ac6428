"""`hourly_spend`: this hour of a scope against the median of its past week."""

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Annotated

from pydantic import Field

from models.calendar import Window
from models.detectors.base import NEVER, ScopeDetector, register
from models.rules.finding import Finding
from models.state.median import BREACH, Baseline
from models.state.scopes import ClosedPeriods, Scope
from schemas.money import format_usd, usd_to_nanousd
from schemas.policy import GroupBy, RuleSettings, Usd


class HourlySpendSettings(RuleSettings):
    """`spend_anomaly` in the policy file."""

    group_by: GroupBy = ["tenant_id"]
    multiplier: Annotated[Decimal, Field(gt=1, le=1000)] = Decimal(5)
    baseline_days: Annotated[int, Field(ge=7, le=7)] = 7
    """The rolling median looks back seven days; other windows are not offered yet."""
    min_usd: Usd = Decimal(1)
    """Below this an hour is too cheap to tell anybody about."""
    min_active_hours: Annotated[int, Field(ge=1, le=168)] = 12
    new_normal_hours: Annotated[int, Field(ge=2, le=168)] = 24
    """So many active hours in a row at the new level make it the normal one."""


@register
class HourlySpend(ScopeDetector[HourlySpendSettings]):
    """Fires when a scope's running hour has cost more than 5 x the median of its active hours in the last 7 days."""

    name = "hourly_spend"
    tables = ("spend_anomaly", "hourly_spend")
    settings_class = HourlySpendSettings
    defaults = ({"name": "hourly-5x"},)
    keeps_history = True
    has_baseline = True
    asks_parent = True

    def __init__(self, settings: HourlySpendSettings) -> None:
        super().__init__(settings)
        self.group_by = tuple(settings.group_by)
        self.factor = Fraction(settings.multiplier)
        self.floor_nanousd = usd_to_nanousd(settings.min_usd)

    def _limit(self, scope: Scope) -> tuple[int, Baseline, str] | None:
        """The smallest spend that is too much in this hour, the baseline, and whose it is; None while unknown."""
        hour_ms = scope.window("hour").start_ms
        assert scope.history is not None
        own = scope.history.hours.baseline(hour_ms)
        if own.active_hours >= self.settings.min_active_hours:
            return max(self.floor_nanousd, own.trip(self.factor)), own, "own"
        parent = scope.parent
        if parent is None or parent.history is None or not parent.total_nanousd:
            return None
        theirs = parent.history.hours.baseline(hour_ms)
        if theirs.active_hours < self.settings.min_active_hours:
            return None
        share = Fraction(scope.total_nanousd, parent.total_nanousd)
        return max(self.floor_nanousd, theirs.trip(self.factor * share)), theirs, "parent"

    def next_trip(self, scope: Scope) -> int:
        hour_ms = scope.window("hour").start_ms
        if scope.told_level(self.rule, hour_ms) >= 1:
            return NEVER
        limit = self._limit(scope)
        if limit is None:
            return NEVER
        # A share of the parent's median moves with every event of the scope: look again when the floor is passed.
        amount = limit[0] if limit[2] == "own" else max(self.floor_nanousd, scope.spend("hour") + 1)
        return scope.base("hour") + max(1, amount)

    def woken(self, scope: Scope) -> Iterable[Finding]:
        hour_ms = scope.window("hour").start_ms
        limit = self._limit(scope)
        spent = scope.spend("hour")
        if limit is None or spent < limit[0] or scope.told_level(self.rule, hour_ms) >= 1:
            return
        scope.tell(self.rule, hour_ms, 1.0)
        scope.breach()
        yield self._finding(scope, spent, limit[1], limit[2])

    def late(self, scope: Scope, closed: ClosedPeriods, at_ms: int) -> Iterable[tuple[Window, Finding]]:
        """Hours are judged late only against a history of their own."""
        if (found := closed.get("hour")) is None or scope.history is None:
            return
        window, spent = found
        baseline = scope.history.hours.baseline(window.start_ms)
        told = scope.told_level(self.rule, window.start_ms)
        if told >= 1 or baseline.active_hours < self.settings.min_active_hours:
            return
        if spent >= max(self.floor_nanousd, baseline.trip(self.factor)):
            scope.tell(self.rule, window.start_ms, 1.0)
            scope.history.hours.mark(window.start_ms, BREACH)
            yield window, self._finding(scope, spent, baseline, "own", "in an earlier hour")

    def hour_closed(self, scope: Scope) -> Iterable[Finding]:
        assert scope.history is not None
        hours = scope.history.hours
        if hours.breach_streak() < self.settings.new_normal_hours:
            return
        hours.restart_from_streak()
        baseline = hours.baseline(scope.window("hour").start_ms)
        who = " / ".join(scope.values)
        yield Finding(
            level=1.0,
            severity="info",
            value=baseline.median_x2 / 2,
            unit="nanousd",
            aspect="new-normal",
            summary=(
                f"{who} has spent more than {self.settings.multiplier} times what was usual for "
                f"{self.settings.new_normal_hours} active hours: {format_usd(baseline.median_x2 // 2)} an hour is "
                f"the new normal"
            ),
            next_action="Nothing, if the new level is wanted; set a budget if it is not.",
        )

    def _finding(self, scope: Scope, spent: int, baseline: Baseline, whose: str, words: str = "this hour") -> Finding:
        median = baseline.median_x2 // 2 if baseline.median_x2 % 2 == 0 else baseline.median_x2 / 2
        if whose == "parent" and scope.parent is not None:
            median = median * scope.total_nanousd // max(1, scope.parent.total_nanousd)
        ratio = round(spent / median, 2) if median else None
        usual = f", {ratio:,.3g} times the usual {format_usd(int(median))}" if ratio else ""
        who = " / ".join(scope.values)
        return Finding(
            level=1.0,
            severity=self.settings.severity,
            value=spent,
            limit=max(self.floor_nanousd, int(self.factor * Fraction(median))),
            baseline=median,
            ratio=ratio,
            unit="nanousd",
            evidence={
                "active_hours": baseline.active_hours,
                "median_nanousd": median,
                "mad_nanousd": baseline.mad_nanousd,
                "baseline_of": whose,
            },
            summary=f"{who} has spent {format_usd(spent)} {words}{usual}",
            next_action="Look at the top runs; mark it as planned if somebody meant it.",
        )
