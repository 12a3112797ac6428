"""How near a run is to a limit: its own, its session's, its tree's, or a budget it spends in."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from models.detectors.limits.budget import Budget
from models.detectors.limits.cap import LimitRule
from models.detectors.limits.stop_rule import StopRuleLimit
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

Nearest = tuple[float, str, str, int, int, str]
"""Share used, rule, what it is about, used, limit, counter."""
NOTHING: Final[Nearest] = (-1.0, "", "", 0, 0, "")


class RouteLimits(NamedTuple):
    """What limits the runs on a route, and what may be commanded beside themselves; worked out at the first record."""

    rules: dict[UnitKind, tuple[LimitRule, ...]]
    """Kind of unit -> the rules that limit it, without the one about stop rules."""
    stop_rule: StopRuleLimit | None
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
        found = {kind: _limiting(rules) for kind, rules in route.unit_rules.items()}
        stop_rule = next((rule for rule in found["run"] if isinstance(rule, StopRuleLimit)), None)
        found["run"] = tuple(rule for rule in found["run"] if rule is not stop_rule)
        limits = route.limits = RouteLimits(found, stop_rule, tuple(budgets), tuple(dict.fromkeys(targets)))
    return limits


def nearest_limit(limits: RouteLimits, run: Run, groups: Iterable[Unit], now_ms: int) -> NearestLimit | None:
    """The limit that most of is used up; None where there is none, and the first of equal ones, the run's own before
    others.
    """
    until_ms = now_ms if run.state == "live" else run.ended_ms
    best = _of_unit(NOTHING, limits.rules["run"], run, until_ms)
    if run.stop_rule is not None and limits.stop_rule is not None:
        best = _of_unit(best, (limits.stop_rule,), run, until_ms)
    for group in groups:
        best = _of_unit(best, limits.rules[group.unit_kind], group, now_ms)
    for scope, budget in limits.budgets:
        period = scope.periods.get(budget.settings.period)
        if period is not None and period.start_ms <= now_ms < period.end_ms:
            used, limit = scope.total_nanousd - period.base_nanousd, budget.limit_nanousd(scope, now_ms)
            share = used / limit if limit else 1.0
            if share > best[0]:
                best = (share, budget.rule, "scope", used, limit, "cost_nanousd")
    share, rule, per, used, limit, counter = best
    if not rule:
        return None
    unit = UNITS.get(counter, COUNTED)
    return NearestLimit(rule=rule, per=per, used=used, limit=limit, unit=unit)  # type: ignore[arg-type]  # as in UNITS


def _of_unit(best: Nearest, rules: tuple[LimitRule, ...], unit: Unit, now_ms: int) -> Nearest:
    for rule in rules:
        for counter, used, limit in rule.standing(unit, now_ms):
            share = used / limit if limit else 1.0
            if share > best[0] and limit < NO_TRIP:
                best = (share, rule.rule, unit.unit_kind, used, limit, counter)
    return best


def _limiting(rules: Iterable[Any]) -> tuple[LimitRule, ...]:
    return tuple(rule for rule in rules if isinstance(rule, LimitRule) and rule.settings.mode != "shadow")
