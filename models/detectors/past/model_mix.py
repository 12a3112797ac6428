"""`model_mix`: a model's share of what its workflow spends today against its share in the last seven days."""

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, ClassVar, Final, NamedTuple

from pydantic import Field, field_validator

from models.baselines.daily_history import median_of
from models.detectors.base import NEVER, ScopeDetector, register
from models.detectors.past.daily_spend import day_after, days_of, episode_of_days
from models.rules.finding import Finding
from models.state.spend.scopes import Scope
from schemas.duration import DAY_MS, HOUR_MS
from schemas.money import format_usd, usd_to_nanousd
from schemas.policy import GroupBy, Period, RuleSettings, Severity, Steps, Usd

WEEK_MS: Final = 7 * DAY_MS


class ModelMixSettings(RuleSettings):
    """`model_mix` in the policy file."""

    steps: ClassVar[Steps] = {"max_change": (0.5, 1.5, 2), "min_usd": (0.5, 2, 5)}
    group_by: GroupBy = ["tenant_id", "workflow", "model"]
    """What is compared stands last, and before it the whole that it is a share of."""
    max_change: Annotated[Decimal, Field(gt=0, lt=1)] = Decimal("0.25")
    """By so many of all, as a share, may one grow: 0.25 lets 10 % become 35 %."""
    min_usd: Usd = Decimal(5)
    """Below this, what it has cost beyond its usual share is too little to tell anybody about."""
    min_active_days: Annotated[int, Field(ge=2, le=7)] = 3
    """Days of the last seven on which the whole has spent anything."""
    severity: Severity = "warning"

    @field_validator("group_by")
    @classmethod
    def _has_a_whole(cls, group_by: list[str]) -> list[str]:
        if len(group_by) < 2:
            raise ValueError('a share is of something: write ["tenant_id", "model"] or more')
        return group_by


class Mix(NamedTuple):
    """What is usual, and what the day comes to."""

    share: Fraction
    """Of the whole, in the last seven days, or on the same weekday of last week if it was larger then."""
    spent: int
    """By the whole today, or on the median day if that is more: early on a day a share means nothing."""
    active_days: int


@register
class ModelMix(ScopeDetector[ModelMixSettings]):
    """Fires when a model's share of a workflow's spend is 25 points above its share in the last seven days. Days in a
    row are one incident.
    """

    name = "model_mix"
    settings_class = ModelMixSettings
    why_off = "telling models apart costs every event about a microsecond"
    periods = ("day",)
    keeps_days = True
    has_baseline = True
    asks_parent = True

    def __init__(self, settings: ModelMixSettings) -> None:
        super().__init__(settings)
        self.group_by = tuple(settings.group_by)
        self.change = Fraction(settings.max_change)
        self.floor_nanousd = max(1, usd_to_nanousd(settings.min_usd))

    def period(self) -> Period:
        return "day"

    def next_trip(self, scope: Scope) -> int:
        mix, spent = self._mix(scope), scope.spend("day")
        if mix is None or mix.share + self.change >= 1:
            return NEVER
        limit = self._limit(mix)
        return scope.base("day") + (limit if spent < limit else 2 * spent)

    def judge(self, scope: Scope) -> Iterable[Finding]:
        spent = scope.spend("day")
        if spent < self.floor_nanousd:
            return
        mix = self._mix(scope)
        if mix is not None and mix.share + self.change < 1 and spent >= self._limit(mix):
            yield self._departed(scope, mix, spent)

    def _limit(self, mix: Mix) -> int:
        """The smallest spend that is too large a share of the day, and beyond the usual one by the floor."""
        return max(int((mix.share + self.change) * mix.spent), int(mix.share * mix.spent) + self.floor_nanousd) + 1

    def _mix(self, scope: Scope) -> Mix | None:
        """What is usual of a scope today; None while too little is known, or if somebody has planned the day."""
        parent, day = scope.parent, scope.window("day")
        if parent is None or parent.history is None or "day" not in parent.periods:
            return None
        mine, whole = days_of(scope), days_of(parent)
        if parent.window("day") != day or mine.is_planned(day.start_ms):
            return None
        week = whole.between(day.start_ms - WEEK_MS - HOUR_MS, day.start_ms)
        active = [one for one in week if one.nanousd]
        if len(active) < self.settings.min_active_days:
            return None
        shares = [Fraction(sum(mine.spend(one.start_ms) for one in active), sum(one.nanousd for one in active))]
        same_day_ms = scope.meter.calendar.window("day", day.start_ms - WEEK_MS + HOUR_MS).start_ms
        if (then := whole.spend(same_day_ms)) > 0:
            shares.append(Fraction(mine.spend(same_day_ms), then))
        return Mix(max(shares), max(parent.spend("day"), median_of(active)), len(active))

    def _departed(self, scope: Scope, mix: Mix, spent: int) -> Finding:
        assert scope.parent is not None
        day = scope.window("day")
        window = episode_of_days(scope, self.rule, day, scope.meter.calendar)
        whole = scope.parent.spend("day")
        usual = int(mix.share * whole)
        of, what = " / ".join(scope.values[:-1]), scope.values[-1]
        share = spent / whole if whole else 1.0
        return Finding(
            level=1.0,
            severity=self.settings.severity,
            value=spent,
            limit=self._limit(mix) - 1,
            baseline=usual,
            ratio=round(share / float(mix.share), 2) if mix.share else None,
            unit="nanousd",
            window=window,
            ends_ms=day_after(scope.meter.calendar, window),
            hour="day_breach",
            evidence={
                "period": "day",
                "active_days": mix.active_days,
                "share": round(share, 4),
                "usual_share": round(float(mix.share), 4),
            },
            summary=(
                f"{what} makes {share:.0%} of what {of} spends today, and {float(mix.share):.0%} usually: "
                f"{format_usd(spent)} of {format_usd(whole)}, {format_usd(spent - usual)} beyond its share"
            ),
            next_action="See who routes to it and why; mark it as planned if somebody meant it.",
        )
