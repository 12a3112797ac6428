"""What alerting says of the service itself: entries of its log that it cannot read, workers under another policy."""

from collections.abc import Mapping
from typing import Final

from schemas.alert import Alert
from schemas.duration import DAY_MS, MINUTE_MS
from streams.service_alert import POLICIES_DIFFER, UNREADABLE_DELIVERIES, service_alert

MOST_NAMED = 5
PATIENCE_MS: Final = 2 * MINUTE_MS
"""A policy that has just been published reaches one process before another."""
FRESH_MS: Final = 10 * MINUTE_MS
"""A sign of life that is older tells of a time when another policy may have been in force."""


def set_aside_alert(partition: int, unreadable: Mapping[str, str], at_ms: int, policy_version: str) -> Alert:
    """One for all entries of a partition. The same entries make the same alert, which is sent once.

    Args:
        partition: of deliveries.v1.
        unreadable: key and reason of each.
        at_ms: now.
        policy_version: of the policy in force.
    """
    count = len(unreadable)
    return service_alert(
        UNREADABLE_DELIVERIES,
        partition,
        at_ms,
        policy_version,
        about=sorted(unreadable),
        severity="critical",
        level=1.0,
        value=count,
        unit="records",
        evidence={"records": count, "keys": sorted(unreadable)[:MOST_NAMED]},
        summary=f"{count} records of deliveries.v1, partition {partition}, cannot be read and were set aside: "
        "what they said of alerts to be sent is unknown.",
        next_action="Look whether somebody was to be told: python -m streams deliveries check. "
        "Then take them out: python -m streams deliveries repair --save FILE",
    )


class PolicyWatch:
    """Remembers since when a partition's worker names another policy than ours: each sign of life names its own."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[str, int]] = {}
        """Partition -> the worker's version, and since when it is not ours."""
        self._said: dict[int, str] = {}
        """Partition -> the id of the last alert about it."""

    def beat(self, beat: Alert, ours: str, now_ms: int) -> None:
        """Take note of a sign of life."""
        number = int(beat.scope["partition"])
        if now_ms - beat.ts_ms > FRESH_MS:
            return
        if beat.policy_version == ours:
            self._since.pop(number, None)
        elif self._since.get(number, ("", 0))[0] != beat.policy_version:
            self._since[number] = (beat.policy_version, now_ms)

    def differing(self, ours: str, now_ms: int) -> dict[int, str]:
        """Partition -> the version its worker decides by, where that has not been ours for a while."""
        return {
            number: theirs
            for number, (theirs, since_ms) in self._since.items()
            if theirs != ours and now_ms - since_ms >= PATIENCE_MS
        }

    def news(self, partition: int, theirs: str, ours: str, now_ms: int) -> Alert | None:
        """What is to be said of a difference; None once that was said today."""
        alert = _alert(partition, theirs, ours, now_ms)
        if self._said.get(partition) == alert.alert_id:
            return None
        self._said[partition] = alert.alert_id
        return alert

    def forget(self) -> None:
        """Others answer for the partitions from here on."""
        self._since.clear()


def _alert(partition: int, theirs: str, ours: str, at_ms: int) -> Alert:
    """One a day for a partition and a pair of policies: said again after a restart, it is the same alert."""
    return service_alert(
        POLICIES_DIFFER,
        partition,
        at_ms,
        ours,
        about=(theirs, ours, at_ms // DAY_MS),
        severity="warning",
        level=0.5,
        value=1,
        unit="partitions",
        evidence={"worker": theirs, "alerting": ours},
        summary=f"Partition {partition} is decided by the policy {theirs!r}, and people are told by {ours!r}.",
        next_action="Publish the one that is meant: python -m streams policy publish FILE. What is published goes "
        "before SPENDFUSE_POLICY everywhere; look for it if only one of the two has it.",
    )
