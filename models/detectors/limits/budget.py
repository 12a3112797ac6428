"""`budget`: what a scope spends in a calendar period, against a limit."""

from collections.abc import Iterable
from typing import ClassVar, Self

from pydantic import model_validator

from models.calendar import Window
from models.detectors.base import NEVER, ScopeDetector, commanded, register
from models.rules.finding import Finding
from models.rules.levels import levels_of, next_amount, reached
from models.state.spend.scopes import ClosedPeriods, Scope
from schemas.money import format_usd, usd_to_nanousd
from schemas.policy import Action, BudgetException, GroupByAcross, Limit, Period, RuleSettings, Steps, Thresholds, Usd

PERIOD_WORDS: dict[Period, str] = {"hour": "this hour", "day": "today", "week": "this week", "month": "this month"}


class BudgetSettings(RuleSettings):
    """One budget per distinct value of `group_by`, for every calendar period in the policy's time zone."""

    steps: ClassVar[Steps] = {"limit_usd": (0.5, 0.75, 1.5, 2)}
    group_by: GroupByAcross = ["tenant_id"]
    period: Period
    limit_usd: Usd
    thresholds: Thresholds = [0.5, 0.8, 1.0]
    at_limit: Limit = "alert"
    overrides: dict[str, Usd] = {}
    """Scope (its values joined by `/`) -> limit."""
    exceptions: list[BudgetException] = []

    @model_validator(mode="after")
    def _kills_nobody_across_tenants(self) -> Self:
        if "tenant_id" not in self.group_by and self.at_limit == "kill":
            raise ValueError('across tenants nobody is killed: people lift kills one by one; write at_limit = "pause"')
        return self


@register
class Budget(ScopeDetector[BudgetSettings]):
    """Fires when a scope's spend in its calendar period reaches a share of its limit, each level once a period."""

    name = "budget"
    settings_class = BudgetSettings
    follows_limits = True
    splits_owners = True

    def __init__(self, settings: BudgetSettings) -> None:
        super().__init__(settings)
        self.group_by = tuple(settings.group_by)
        self.periods = (settings.period,)
        self.keeps_history = settings.period == "hour"  # spend may come a day late, 24 hours after its own
        self.thresholds = tuple(settings.thresholds)
        self._limit_nanousd = usd_to_nanousd(settings.limit_usd)
        self._overrides_nanousd = {scope: usd_to_nanousd(usd) for scope, usd in settings.overrides.items()}
        self._has_others = bool(settings.overrides or settings.exceptions)
        """Whether some scope has another limit."""
        self._stops = settings.mode == "enforce" and self.limit_action is not None

    @property
    def limit_action(self) -> Action | None:
        return commanded(self.settings.at_limit)

    def period(self) -> Period:
        return self.settings.period

    def boundaries_ms(self) -> Iterable[int]:
        return (exception.until_ms for exception in self.settings.exceptions)

    def limit_nanousd(self, scope: Scope, at_ms: int) -> int:
        """The limit of this scope at that time: an exception before an override before the rule's own."""
        raised = scope.raised.get(self.rule)
        if raised and at_ms < raised[1]:
            return raised[0]
        return self.written_limit_nanousd(scope.override_key, at_ms) if self._has_others else self._limit_nanousd

    def written_limit_nanousd(self, key: str, at_ms: int) -> int:
        """What the policy gives a scope, by the name that it has there, at that time."""
        if (exception := self._exception(key, at_ms)) is not None:
            return usd_to_nanousd(exception.limit_usd)
        return self._overrides_nanousd.get(key, self._limit_nanousd)

    def _exception(self, key: str, at_ms: int) -> BudgetException | None:
        """The one of the policy that a scope of that name has at that time."""
        valid = (one for one in self.settings.exceptions if one.scope == key and at_ms < one.until_ms)
        return next(valid, None)

    def limit_ends_ms(self, scope: Scope) -> int:
        raised = scope.raised.get(self.rule)
        if raised and scope.at_ms < raised[1]:
            return raised[1]
        exception = self._exception(scope.override_key, scope.at_ms) if self._has_others else None
        return 0 if exception is None else exception.until_ms

    def standing(self, scope: Scope, now_ms: int) -> tuple[int, int] | None:
        period = scope.periods.get(self.settings.period)
        if period is None or not period.start_ms <= now_ms < period.end_ms:
            return None
        return scope.total_nanousd - period.base_nanousd, self.limit_nanousd(scope, now_ms)

    def next_trip(self, scope: Scope) -> int:
        if self.is_exhausted(scope):
            return 0  # wake at every event, so that whoever spends here now is stopped too
        levels = levels_of(self.limit_nanousd(scope, scope.at_ms), self.thresholds)
        amount = next_amount(levels, scope.spend(self.settings.period))
        return NEVER if amount is None else scope.base(self.settings.period) + amount

    def is_exhausted(self, scope: Scope) -> bool:
        if not self._stops:
            return False
        return scope.spend(self.settings.period) >= max(1, self.limit_nanousd(scope, scope.at_ms))

    def judge(self, scope: Scope) -> Iterable[Finding]:
        window = scope.window(self.settings.period)
        spent = scope.spend(self.settings.period)
        limit = self.limit_nanousd(scope, scope.at_ms)
        reached_ms = forecast_ms(spent, limit, window.start_ms, scope.at_ms)
        within = reached_ms is not None and reached_ms < window.end_ms
        words = PERIOD_WORDS[self.settings.period]
        yield self._finding(scope, window, limit, spent, reached_ms if within else None, words)

    def judge_closed(self, scope: Scope, closed: ClosedPeriods, at_ms: int, now_ms: int) -> Iterable[Finding]:
        if (found := closed.get(self.settings.period)) is None:
            return
        window, spent = found
        period = self.settings.period
        words = PERIOD_WORDS[period] if window.end_ms > now_ms else f"in an earlier {period}"
        yield self._finding(scope, window, self.limit_nanousd(scope, at_ms), spent, None, words)

    def _finding(
        self, scope: Scope, window: Window, limit: int, spent: int, forecast_ms: int | None, words: str
    ) -> Finding:
        level = reached(levels_of(limit, self.thresholds), spent)
        if not level:
            # Nobody reads it, and it is found at every hour: no words are made.
            return Finding(0, "info", spent, "", "", "", window=window)
        ratio = round(spent / limit, 4) if limit else None
        who = scope.label
        over = level >= 1
        return Finding(
            level=level,
            severity=self.severity_at(level),
            value=spent,
            limit=limit,
            ratio=ratio,
            unit="nanousd",
            action=self.limit_action if over else None,
            window=window,
            evidence={
                "period": self.settings.period,
                "forecast_limit_reached_ms": forecast_ms,
                "at_limit": self.settings.at_limit,
            },
            summary=f"{who} has spent {format_usd(spent)} of its {format_usd(limit)} budget {words}",
            next_action=(
                f"Look at {scope.spenders}; raise the limit with an exception if the spend is wanted."
                if over
                else f"Look at {scope.spenders} if this is early in the {self.settings.period}; raise the limit in "
                "time if the spend is wanted."
            ),
        )


def forecast_ms(spent: int, limit: int, start_ms: int, at_ms: int) -> int | None:
    """When the limit is reached if spending goes on as it has since the period began; None once it is reached."""
    if spent >= limit or spent <= 0 or at_ms <= start_ms:
        return None
    return at_ms + (limit - spent) * (at_ms - start_ms) // spent
