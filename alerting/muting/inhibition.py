"""Inhibition: an open incident that was sent to a receiver keeps from it what it covers already.

What covers what is the policy's (`[[inhibit]]`). Only what was really sent inhibits; what has ended, or has not been
heard of for longer than it would be reminded of, does not.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from alerting.dedup import RANK, is_over, outranks
from alerting.routing.labels import labels, matches
from schemas.alert import PAGING, Alert
from schemas.duration import HOUR_MS
from schemas.routing import Inhibit

HEARD_WITHIN_MS = {True: 7 * HOUR_MS, False: 25 * HOUR_MS}
"""How long after its last alert an incident without a window counts as open, by whether it pages: an hour more than the
longest time between two reminders."""

Source = tuple[str, str]
"""Incident and receiver."""
Bucket = tuple[str | int | None, ...]
"""An `inhibit` table, receiver, tenant, and what source and target must have in common."""


@dataclass(slots=True)
class _Sent:
    """What a receiver was last sent of an incident, and until when that counts."""

    alert: Alert
    until_ms: int
    buckets: list[Bucket]


class Inhibition:
    """Incidents that inhibit others, by receiver."""

    def __init__(self, rules: Iterable[Inhibit]) -> None:
        self._rules = tuple(rules)
        self._sent: dict[str, dict[str, _Sent]] = {}
        """Incident -> receiver -> what it was sent."""
        self._buckets: dict[Bucket, dict[Source, None]] = {}

    def sent(self, alert: Alert, receiver: str) -> None:
        """A receiver has a message of this alert: from now on its incident inhibits there."""
        known = self._sent.get(alert.incident_id, {}).get(receiver)
        self._remove(alert.incident_id, receiver)
        if is_over(alert):
            return
        found = labels(alert)
        buckets = [
            (number, receiver, alert.tenant_id, *_common(rule, alert, found))
            for number, rule in enumerate(self._rules)
            if matches(rule.source, found)
        ]
        if not buckets:
            return
        until_ms = max(_until_ms(alert), known.until_ms if known else 0)
        self._sent.setdefault(alert.incident_id, {})[receiver] = _Sent(alert, until_ms, buckets)
        for bucket in buckets:
            self._buckets.setdefault(bucket, {})[alert.incident_id, receiver] = None

    def observe(self, alert: Alert) -> None:
        """An incident was heard of: it still inhibits, or has ended."""
        for receiver, sent in list(self._sent.get(alert.incident_id, {}).items()):
            if is_over(alert):
                self._remove(alert.incident_id, receiver)
            else:
                sent.until_ms = max(sent.until_ms, _until_ms(alert))

    def inhibitor(self, alert: Alert, receiver: str, now_ms: int) -> Alert | None:
        """The incident that was sent to the receiver and covers this alert; None if there is none.

        An alert that carries a command is never covered: that something was stopped is news by itself.
        """
        if carries_command(alert):
            return None
        found = labels(alert)
        for number, rule in enumerate(self._rules):
            if not matches(rule.target, found):
                continue
            bucket = (number, receiver, alert.tenant_id, *_common(rule, alert, found))
            for incident_id, _ in self._buckets.get(bucket, ()):
                sent = self._sent[incident_id][receiver]
                if now_ms < sent.until_ms and _covers(rule, sent.alert, alert):
                    return sent.alert
        return None

    def forget(self, now_ms: int) -> None:
        """Drop incidents that do not inhibit any more."""
        for incident_id, receivers in list(self._sent.items()):
            for receiver in [name for name, sent in receivers.items() if sent.until_ms <= now_ms]:
                self._remove(incident_id, receiver)

    def _remove(self, incident_id: str, receiver: str) -> None:
        receivers = self._sent.get(incident_id, {})
        sent = receivers.pop(receiver, None)
        if sent is None:
            return
        if not receivers:
            del self._sent[incident_id]
        for bucket in sent.buckets:
            del self._buckets[bucket][incident_id, receiver]
            if not self._buckets[bucket]:
                del self._buckets[bucket]


def carries_command(alert: Alert) -> bool:
    """Whether something was stopped because of it, or must be: a command stands, or its rule gives one at its limit."""
    reached = alert.mode == "enforce" and alert.level >= 1 and alert.evidence.get("at_limit") != "alert"
    return alert.command is not None or reached


def _until_ms(alert: Alert) -> int:
    """Until when an incident counts as open after this alert: its window's end, or as long as a reminder may take."""
    if alert.window_end_ms is not None:
        return alert.window_end_ms
    return alert.ts_ms + HEARD_WITHIN_MS[alert.severity in PAGING]


def _common(rule: Inhibit, alert: Alert, found: Mapping[str, str]) -> tuple[str | int | None, ...]:
    """The values in which source and target must agree. `parent` is not among them: it is no equality."""
    values: list[str | int | None] = []
    for name in rule.equal:
        if name == "scope":
            values += [alert.run_id, *(f"{key}={value}" for key, value in sorted(alert.scope.items()))]
        elif name == "period":
            values += [alert.window_start_ms, alert.window_end_ms]
        elif name != "parent":
            values.append(found.get(name))
    return tuple(values)


def _covers(rule: Inhibit, source: Alert, target: Alert) -> bool:
    """Whether a source says all that there is to say about a target, beyond what the two have in common."""
    if source.incident_id == target.incident_id or RANK[source.severity] < RANK[target.severity]:
        return False
    if source.rule == target.rule and not outranks(source, target):
        return False
    return "parent" not in rule.equal or _is_parent(source, target)


def _is_parent(source: Alert, target: Alert) -> bool:
    """Whether the target lies in the source's scope: a narrower scope, or a run of it."""
    inside = {**target.attribution, **target.scope, "tenant_id": target.tenant_id}
    is_same = source.scope == target.scope and target.run_id is None
    return source.run_id is None and not is_same and source.scope.items() <= inside.items()
