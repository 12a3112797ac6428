"""What tenants spend now, against their limits, and where that leads."""

from collections.abc import Mapping
from typing import NamedTuple

from models.calendar import Calendar, Period, Window
from models.detectors.limits.budget import Budget
from models.rules.policy import Policy
from schemas.duration import DAY_MS, MINUTE_MS
from schemas.operator import LimitException
from streams.console.state.spend import SpendHours

PERIODS: tuple[Period, ...] = ("hour", "day", "month")
SETTLED_MS = 3 * MINUTE_MS
"""Sooner after its beginning an hour says nothing of where it leads."""
HOURS_SHOWN = 24

Raised = Mapping[tuple[str, str], LimitException]
"""Rule and scope -> what an operator has raised its limit to."""


class PeriodSpend(NamedTuple):
    """What was spent in a calendar period, against the tightest limit of it."""

    period: Period
    window: Window
    spent: int
    limit: int | None
    rule: str | None
    leads_to: int | None
    """What it comes to at the end of the period if it goes on so; None where nobody can tell, or it is over."""
    reached_ms: int | None
    """When the limit is reached if it goes on so; None where it is not within the period."""

    @property
    def share(self) -> float | None:
        """Of the limit; 1.0 is the limit itself."""
        if self.limit is None:
            return None
        return self.spent / self.limit if self.limit else 1.0


class Spending(NamedTuple):
    """A tenant's spend as it stands."""

    at_ms: int
    """The moment that all of it is about: now, or when it last spent anything, if that was in an earlier hour."""
    is_running: bool
    """Whether the hour of that moment still runs."""
    periods: tuple[PeriodSpend, ...]
    hourly: list[int]
    """Its last hours, oldest first."""
    most_of_it: tuple[str, float] | None
    """The workflow that had most of the day, and its share."""


def spending(hours: SpendHours, policy: Policy, tenant_id: str, raised: Raised, now_ms: int) -> Spending:
    """How a tenant's spend stands."""
    calendar = policy.calendar
    hour = calendar.window("hour", now_ms)
    is_running = hours.last_ms >= hour.start_ms
    at_ms = now_ms if is_running else max(0, hours.last_ms - 1)
    hour = calendar.window("hour", at_ms)
    hourly = hours.hourly(hour.end_ms, HOURS_SHOWN)
    limits = _limits(policy, tenant_id, raised, at_ms)
    found = [_period(hours, calendar, period, limits.get(period), at_ms, is_running=is_running) for period in PERIODS]
    workflows = hours.by_workflow(calendar.window("day", at_ms))
    total = sum(workflows.values())
    first = max(workflows.items(), key=lambda one: one[1], default=None)
    most = None if first is None or not total else (first[0], first[1] / total)
    return Spending(at_ms, is_running, tuple(found), hourly, most)


def _period(
    hours: SpendHours, calendar: Calendar, period: Period, limit: tuple[int, str] | None, at_ms: int, *,
    is_running: bool,
) -> PeriodSpend:  # fmt: skip
    window = calendar.window(period, at_ms)
    spent = hours.spent(window)
    amount, rule = limit or (None, None)
    per_ms = _pace(hours, window, spent, period, at_ms) if is_running else None
    leads_to = None if per_ms is None else spent + int(per_ms * (window.end_ms - at_ms))
    reached_ms = None
    if amount is not None and per_ms and spent < amount:
        at = at_ms + int((amount - spent) / per_ms)
        reached_ms = at if at < window.end_ms else None
    return PeriodSpend(period, window, spent, amount, rule, leads_to, reached_ms)


def _pace(hours: SpendHours, window: Window, spent: int, period: Period, at_ms: int) -> float | None:
    """Nano-dollars a millisecond: of this hour, or for longer periods of the last 24 hours."""
    if period == "hour":
        passed_ms = at_ms - window.start_ms
        return spent / passed_ms if passed_ms >= SETTLED_MS else None
    return hours.spent(Window(at_ms - DAY_MS, at_ms + 1)) / DAY_MS


def _limits(policy: Policy, tenant_id: str, raised: Raised, at_ms: int) -> dict[Period, tuple[int, str]]:
    """The tightest limit of a tenant as a whole in each period, with its rule."""
    found: dict[Period, tuple[int, str]] = {}
    for rule in policy.rules.values():
        if not isinstance(rule, Budget) or rule.group_by != ("tenant_id",) or not _is_told(rule):
            continue
        limit = limit_of(rule, tenant_id, raised, at_ms)
        period = rule.settings.period
        if period not in found or limit < found[period][0]:
            found[period] = (limit, rule.rule)
    return found


def _is_told(rule: Budget) -> bool:
    """Whether it is about whole tenants, all of them, and not on trial."""
    return not rule.settings.match and rule.settings.mode != "shadow"


def limit_of(rule: Budget, tenant_id: str, raised: Raised, at_ms: int) -> int:
    """What a tenant may spend as a whole under a budget, an operator's exception before the policy's word."""
    order = raised.get((rule.rule, tenant_id))
    if order is not None and at_ms < order.until_ms:
        return order.limit_nanousd
    return rule.written_limit_nanousd(tenant_id, at_ms)
