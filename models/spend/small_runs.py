"""Spend that no single run explains: many small runs of one workflow."""

from collections import Counter
from typing import Final, NamedTuple

from models.calendar import Window
from models.state.spend.scopes import Scope
from models.state.tenant import Tenant

FEWEST: Final = 100
"""Fewer runs are better looked at one by one."""
MOST_TOTALS: Final = 20_000
"""With more hours of workflows than this nobody looks: it must not hold up the kill."""
_DIMENSIONS: Final = frozenset(("tenant_id", "workflow"))


class SmallRuns(NamedTuple):
    """The workflow whose many runs have spent most in a scope."""

    workflow: str
    runs: int
    """That began in the window, within the last day or so: what is older is not known any more."""
    median_nanousd: int
    """Of its last finished runs."""


def small_runs(tenant: Tenant, scope: Scope, window: Window) -> SmallRuns | None:
    """The workflow that has spent half or more in the window, where it was many runs at their usual cost that did; None
    where some are dear, or that is not known. Looks at the hours of all workflows.
    """
    of_calls = {dimension for dimension, _ in scope.meter.match} | set(scope.meter.group_by)
    if scope.meter.is_across or not of_calls <= _DIMENSIONS or len(tenant.totals) > MOST_TOTALS:
        return None
    own = scope.dimensions.get("workflow")
    matched = dict(scope.meter.match).get("workflow")
    spent: Counter[str] = Counter()
    runs: Counter[str] = Counter()
    for totals in tenant.totals.values():
        name = totals.workflow
        is_within = window.start_ms <= totals.start_ms < window.end_ms
        if is_within and own in (None, name) and (matched is None or name in matched):
            spent[name] += totals.cost_nanousd
            runs[name] += totals.runs_started
    if not spent:
        return None
    workflow = max(spent, key=lambda name: (spent[name], name))
    cohort = tenant.cohorts.get(workflow)
    if cohort is None or not len(cohort.recent) or runs[workflow] < FEWEST:
        return None
    median_x2 = cohort.recent.median_x2()
    if 2 * spent[workflow] < spent.total() or median_x2 * runs[workflow] < spent[workflow]:
        return None
    return SmallRuns(workflow, runs[workflow], median_x2 // 2)
