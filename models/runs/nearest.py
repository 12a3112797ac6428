"""How near a run is to a limit: its own, its session's, its tree's, or a budget it spends in."""

from collections.abc import Iterable
from typing import Any, Final

from models.detectors.base import ScopeDetector, UnitDetector
from models.rules.policy import Policy
from models.state.units.route import Route, RouteLimits
from models.state.units.runs import Run
from models.state.units.unit import NO_TRIP, Unit
from schemas.control import TargetType
from schemas.run import NearestLimit

UNITS: Final = {"cost_nanousd": "nanousd", "duration_ms": "ms"}
COUNTED: Final = "calls"
"""The unit of all other counters: model calls, tool calls, premium calls, retries."""

Nearest = tuple[float, str, str, int, int, str]
"""Share used, rule, what it is about, used, limit, counter."""
NOTHING: Final[Nearest] = (-1.0, "", "", 0, 0, "")


def limits_of(policy: Policy, tenant_id: str, route: Route) -> RouteLimits:
    """The limits of a route under the policy in force. What a rule in shadow mode finds concerns nobody."""
    limits = route.limits
    if limits is None:
        budgets = [
            (scope, rule)
            for scope in route.scopes
            for name in scope.meter.rules
            if isinstance(rule := policy.rules.get(name), ScopeDetector)
            and _limits(rule)
            and type(rule).standing is not ScopeDetector.standing
        ]
        scopes: list[tuple[TargetType, str]] = [("scope", scope.scope_id) for scope in route.scopes]
        targets: list[tuple[TargetType, str]] = [*scopes, ("workflow", route.workflow), ("tenant", tenant_id)]
        rules = {kind: tuple(rule for rule in found if _limits(rule)) for kind, found in route.unit_rules.items()}
        limits = route.limits = RouteLimits(rules, tuple(budgets), tuple(dict.fromkeys(targets)))
    return limits


def nearest_limit(limits: RouteLimits, run: Run, groups: Iterable[Unit], now_ms: int) -> NearestLimit | None:
    """The limit that most of is used up; None where there is none, and the first of equal ones, the run's own before
    others.
    """
    best = _of_unit(NOTHING, limits.rules["run"], run, now_ms if run.state == "live" else run.ended_ms)
    for group in groups:
        best = _of_unit(best, limits.rules[group.unit_kind], group, now_ms)
    for scope, budget in limits.budgets:
        if (found := budget.standing(scope, now_ms)) is not None:
            share = _share(*found)
            if share > best[0]:
                best = (share, budget.rule, "scope", *found, "cost_nanousd")
    _, rule, per, used, limit, counter = best
    if not rule:
        return None
    unit = UNITS.get(counter, COUNTED)
    return NearestLimit(rule=rule, per=per, used=used, limit=limit, unit=unit)  # type: ignore[arg-type]  # as in UNITS


def _of_unit(best: Nearest, rules: Iterable[UnitDetector[Any]], unit: Unit, now_ms: int) -> Nearest:
    for rule in rules:
        for counter, used, limit in rule.standing(unit, now_ms):
            share = _share(used, limit)
            if share > best[0] and limit < NO_TRIP:
                best = (share, rule.rule, unit.unit_kind, used, limit, counter)
    return best


def _share(used: int, limit: int) -> float:
    return used / limit if limit else 1.0


def _limits(rule: UnitDetector[Any] | ScopeDetector[Any]) -> bool:
    return rule.follows_limits and rule.settings.mode != "shadow"
