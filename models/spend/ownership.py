"""Whose a scope's spend is, and who spent how much of it in a rule's period."""

from typing import Any, Final

from models.attribution import OVERFLOW
from models.calendar import Window
from models.detectors.base import ScopeDetector
from models.state.spend.scopes import Scope
from schemas.usage import UNATTRIBUTED

OWNERS_LISTED: Final = 20


def owners_of(scope: Scope, rule: ScopeDetector[Any], window: Window) -> tuple[str | None, tuple[str, ...]]:
    """Whoever spent half or more in the rule's period, else everybody who spent anything.

    Of a period that is over nobody knows any more who spent what.
    """
    own = scope.dimensions.get("owner")
    if own is not None:
        return (None if own in (UNATTRIBUTED, OVERFLOW) else own), ()
    if _is_over(scope, rule, window):
        return None, ()
    spent = scope.spent_by_owner(rule.period())
    named = [owner for owner in spent if owner not in (UNATTRIBUTED, OVERFLOW)]
    if not spent or not named:
        return None, ()
    first = next(iter(spent))
    if 2 * spent[first] >= sum(spent.values()):
        return (None if first == UNATTRIBUTED else first), ()
    return None, tuple(named[:OWNERS_LISTED])


def shares_as_evidence(scope: Scope, rule: ScopeDetector[Any], window: Window) -> dict[str, Any]:
    """What every owner has spent in the period, the largest first; nothing where there is one owner, or it is over."""
    if scope.shares is None or _is_over(scope, rule, window):
        return {}
    spent = list(scope.spent_by_owner(rule.period()).items())[:OWNERS_LISTED]
    return {"owners": [{"owner": owner, "cost_nanousd": nanousd} for owner, nanousd in spent]}


def _is_over(scope: Scope, rule: ScopeDetector[Any], window: Window) -> bool:
    return window.end_ms <= scope.window(rule.period()).start_ms
