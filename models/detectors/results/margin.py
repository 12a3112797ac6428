"""`margin`: what a tenant costs, against what it pays."""

from collections.abc import Iterable
from fractions import Fraction
from typing import Annotated, ClassVar

from pydantic import Field

from models.calendar import Window
from models.detectors.base import NEVER, ScopeDetector, register
from models.detectors.limits.budget import PERIOD_WORDS, forecast_ms
from models.rules.finding import Finding
from models.rules.levels import Level, levels_of, next_amount, reached
from models.state.spend.scopes import ClosedPeriods, Scope
from schemas.money import format_usd, usd_to_nanousd
from schemas.policy import Contract, Period, PolicyHeader, RuleSettings, Severity, Share, Steps, Thresholds


class MarginSettings(RuleSettings):
    """What tenants pay stands in `[[contract]]`, one table each. Others are not watched by this rule."""

    steps: ClassVar[Steps] = {"max_share": (0.5, 0.75, 1.5, 2)}
    max_share: Annotated[Share, Field(le=10)] = 0.3
    """How much of what a tenant pays for a period it may cost in it."""
    thresholds: Thresholds = [0.8, 1.0]
    """Shares of that."""
    severity: Severity = "warning"


@register
class Margin(ScopeDetector[MarginSettings]):
    """Fires when a tenant has cost 80 and 100 % of what it may cost in a period: 30 % of its contract's value."""

    name = "margin"
    settings_class = MarginSettings
    defaults = ({"name": "margin"},)
    follows_limits = True

    def __init__(self, settings: MarginSettings, contracts: Iterable[Contract] = ()) -> None:
        super().__init__(settings)
        self.group_by = ("tenant_id",)
        self.thresholds = tuple(settings.thresholds)
        self._contracts: dict[str, list[Contract]] = {}
        for contract in sorted(contracts, key=lambda one: one.starts_ms, reverse=True):
            self._contracts.setdefault(contract.tenant, []).append(contract)
        self.periods = tuple({one.watched for known in self._contracts.values() for one in known})

    @classmethod
    def of(cls, settings: MarginSettings, header: PolicyHeader) -> "Margin":
        return cls(settings, header.contract)

    @classmethod
    def is_asked_for(cls, header: PolicyHeader) -> bool:
        return bool(header.contract)

    def period(self) -> Period:
        return "month"

    def boundaries_ms(self) -> Iterable[int]:
        return (one.starts_ms for known in self._contracts.values() for one in known if one.starts_ms)

    def limit_ends_ms(self, scope: Scope) -> int:
        known = self._contracts.get(scope.values[0], ())
        return min((one.starts_ms for one in known if one.starts_ms > scope.at_ms), default=0)

    def next_trip(self, scope: Scope) -> int:
        contract = self._contract(scope, scope.at_ms)
        if contract is None:
            return NEVER
        amount = next_amount(self._levels(contract), scope.spend(contract.watched))
        return NEVER if amount is None else scope.base(contract.watched) + amount

    def judge(self, scope: Scope) -> Iterable[Finding]:
        contract = self._contract(scope, scope.at_ms)
        if contract is not None:
            yield self._finding(scope, contract, scope.window(contract.watched), scope.spend(contract.watched))

    def judge_closed(self, scope: Scope, closed: ClosedPeriods, at_ms: int, now_ms: int) -> Iterable[Finding]:
        contract = self._contract(scope, at_ms)
        if contract is not None and (found := closed.get(contract.watched)) is not None:
            yield self._finding(scope, contract, *found)

    def _contract(self, scope: Scope, at_ms: int) -> Contract | None:
        """The latest of the tenant's contracts that has started."""
        known = self._contracts.get(scope.values[0], ())
        return next((contract for contract in known if contract.starts_ms <= at_ms), None)

    def _may_cost_nanousd(self, contract: Contract) -> int:
        share = Fraction(str(contract.max_share or self.settings.max_share))
        return int(usd_to_nanousd(contract.watched_usd) * share)

    def _levels(self, contract: Contract) -> tuple[Level, ...]:
        return levels_of(self._may_cost_nanousd(contract), self.thresholds)

    def _finding(self, scope: Scope, contract: Contract, window: Window, spent: int) -> Finding:
        level = reached(self._levels(contract), spent)
        if not level:
            return Finding(0, "info", spent, "", "", "", window=window)
        value, limit = usd_to_nanousd(contract.watched_usd), self._may_cost_nanousd(contract)
        is_over, at_ms = window.end_ms <= scope.at_ms, scope.at_ms
        expected = None if is_over else _at_this_pace(spent, window, at_ms)
        reached_ms = None if is_over else forecast_ms(spent, limit, window.start_ms, at_ms)
        return Finding(
            level=level,
            severity=self.severity_at(level),
            value=spent,
            limit=limit,
            ratio=round(spent / limit, 4) if limit else None,
            unit="nanousd",
            window=window,
            evidence={
                "period": contract.watched,
                "contract_nanousd": value,
                "forecast_nanousd": expected,
                "forecast_limit_reached_ms": reached_ms if reached_ms and reached_ms < window.end_ms else None,
            },
            summary=_summary(scope, contract, window, spent, value, limit),
            next_action=(
                "Look at the dearest workflows and runs; lower what they cost, or what is promised for this price."
                if level >= 1
                else f"Look at the dearest runs if this is early in the {contract.watched}."
            ),
        )


def _summary(scope: Scope, contract: Contract, window: Window, spent: int, value: int, limit: int) -> str:
    when = f"in an earlier {contract.watched}" if window.end_ms <= scope.at_ms else PERIOD_WORDS[contract.watched]
    who, part = scope.values[0], f"{spent / value:.0%} of the {format_usd(value)}"
    return f"{who} has cost {format_usd(spent)} {when}, {part} it pays, where {format_usd(limit)} is the most"


def _at_this_pace(spent: int, window: Window, at_ms: int) -> int | None:
    """What the period will have cost if spending goes on as it has since it began; None at its very beginning."""
    if at_ms <= window.start_ms:
        return None
    return spent * (window.end_ms - window.start_ms) // (at_ms - window.start_ms)
