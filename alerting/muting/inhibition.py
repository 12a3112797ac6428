"""What is wrong right now, as each receiver would hear of it: what inhibition asks."""

from collections.abc import Iterator
from itertools import combinations

from alerting.dedup import is_over, outranks
from schemas.alert import PAGING, Alert

MOST_DIMENSIONS = 6
"""Of scopes with more, only the nearest parents are looked at."""

Scope = frozenset[tuple[str, str]]
Key = tuple[str, str, Scope | str]
"""Receiver, tenant, and scope or run."""


class Standing:
    """Open incidents that may keep others from being told: breaches, and whatever wakes somebody."""

    def __init__(self) -> None:
        self._of: dict[Key, dict[str, Alert]] = {}

    def observe(self, alert: Alert, receiver: str) -> None:
        """Take in the newest of an incident."""
        about = frozenset(alert.scope.items()) if alert.run_id is None else alert.run_id
        _update(self._of, (receiver, alert.tenant_id, about), alert)

    def inhibitor(self, alert: Alert, receiver: str) -> Alert | None:
        """A worse incident, told to the same receiver, that says all there is to say about this one.

        For a run: one of the same run that wakes somebody while this one does not. For a scope: a higher level of the
        same scope by the same detector, or the breach of a parent scope by the same detector and no less severe.
        """
        if alert.run_id is not None:
            if alert.severity in PAGING:
                return None
            others = self._of.get((receiver, alert.tenant_id, alert.run_id), {}).values()
            return next((other for other in others if other.severity in PAGING), None)
        scope = frozenset(alert.scope.items())
        for others_scope in (scope, *_parents(scope)):
            for other in self._of.get((receiver, alert.tenant_id, others_scope), {}).values():
                if other.incident_id != alert.incident_id and _covers(other, alert, is_parent=others_scope != scope):
                    return other
        return None


def _update(index: dict[Key, dict[str, Alert]], key: Key, alert: Alert) -> None:
    incidents = index.setdefault(key, {})
    if is_over(alert):
        incidents.pop(alert.incident_id, None)
    elif alert.level >= 1 or alert.severity in PAGING:
        incidents[alert.incident_id] = alert
    if not incidents:
        del index[key]


def _covers(other: Alert, alert: Alert, *, is_parent: bool) -> bool:
    if other.detector != alert.detector:
        return False
    if is_parent:
        return other.level >= 1 and (other.severity in PAGING or alert.severity not in PAGING)
    return outranks(other, alert)


def _parents(scope: Scope) -> Iterator[Scope]:
    """Scopes that this one lies in, the nearest first."""
    fewest = 1 if len(scope) <= MOST_DIMENSIONS else len(scope) - 1
    for size in range(len(scope) - 1, fewest - 1, -1):
        yield from map(frozenset, combinations(sorted(scope), size))
