"""How near a run is to a limit: its own, its session's, its tree's, or a budget it spends in."""

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from models.detectors.limits.budget import Budget
from models.detectors.limits.cap import LimitRule
from models.rules.policy import Policy
from models.state.spend.scopes import Scope
from models.state.units.route import Route
from models.state.units.runs import Run
from models.state.units.unit import NO_TRIP, Unit, UnitKind
from schemas.control import TargetType
from schemas.run import NearestLimit

UNITS: Final = {"cost_nanousd": "nanousd", "duration_ms": "ms"}
COUNTED: Final = "calls"
"""The unit of all other counters: model calls, tool calls, premium calls, retries."""


class RouteLimits(NamedTuple):
    """What limits the runs on a route, and what may be commanded beside themselves; worked out at the first record."""

    rules: dict[UnitKind, tuple[LimitRule, ...]]
    budgets: tuple[tuple[Scope, Budget], ...]
    targets: tuple[tuple[TargetType, str], ...]
    """The wider targets that hold them, the nearest first."""


def limits_of(policy: Policy, tenant_id: str, route: Route) -> RouteLimits:
    """The limits of a route under the policy in force. What a rule in shadow mode finds concerns nobody."""
    limits: RouteLimits | None = route.limits
    if limits is None:
        budgets = [
            (scope, rule)
            for scope in route.scopes
            for name in scope.meter.rules
            if isinstance(rule := policy.rules.get(name), Budget) and rule.settings.mode != "shadow"
        ]
        scopes: list[tuple[TargetType, str]] = [("scope", scope.scope_id) for scope in route.scopes]
        targets: list[tuple[TargetType, str]] = [*scopes, ("workflow", route.workflow), ("tenant", tenant_id)]
        rules = {kind: _limiting(found) for kind, found in route.unit_rules.items()}
        limits = route.limits = RouteLimits(rules, tuple(budgets), tuple(dict.fromkeys(targets)))
    return limits


def nearest_limit(
    limits: RouteLimits, run: Run, groups: Iterable[Unit], until_ms: int, now_ms: int
) -> NearestLimit | None:
    """The limit that most of is used up; None where there is none, and the first of equal ones, the run's own before
    others. A run takes time `until_ms`, when it ended or now.
    """
    best: tuple[float, str, str, int, int, str] | None = None
    for rule, per, used, limit, unit in _all(limits, run, groups, until_ms, now_ms):
        share = used / limit if limit else 1.0
        if best is None or share > best[0]:
            best = (share, rule, per, used, limit, unit)
    if best is None:
        return None
    _, rule, per, used, limit, unit = best
    return NearestLimit(rule=rule, per=per, used=used, limit=limit, unit=unit)  # type: ignore[arg-type]  # as in UNITS


def _all(
    limits: RouteLimits, run: Run, groups: Iterable[Unit], until_ms: int, now_ms: int
) -> Iterator[tuple[str, str, int, int, str]]:
    """Rule, what it is about, used, limit and unit of each."""
    yield from _of_unit(limits.rules["run"], run, until_ms)
    for group in groups:
        yield from _of_unit(limits.rules[group.unit_kind], group, now_ms)
    for scope, budget in limits.budgets:
        period = scope.periods.get(budget.settings.period)
        if period is not None and period.start_ms <= now_ms < period.end_ms:
            spent = scope.total_nanousd - period.base_nanousd
            yield budget.rule, "scope", spent, budget.limit_nanousd(scope, now_ms), "nanousd"


def _of_unit(rules: tuple[LimitRule, ...], unit: Unit, now_ms: int) -> Iterator[tuple[str, str, int, int, str]]:
    for rule in rules:
        for counter, used, limit in rule.standing(unit, now_ms):
            if limit < NO_TRIP:
                yield rule.rule, unit.unit_kind, used, limit, UNITS.get(counter, COUNTED)


def _limiting(rules: Iterable[Any]) -> tuple[LimitRule, ...]:
    return tuple(rule for rule in rules if isinstance(rule, LimitRule) and rule.settings.mode != "shadow")
