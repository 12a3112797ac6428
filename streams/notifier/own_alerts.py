"""What alerting says of the service itself: records that it cannot read, receivers that it cannot reach, workers under
another policy, topics whose settings are not as declared.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from confluent_kafka import KafkaException
from msgspec.structs import replace

from alerting.delivery.throttle import Gate
from alerting.rendering.figures import time_of_day
from models.identity import derived_id
from models.rules.policy import Policy
from schemas.alert import RECEIVER_UNREACHABLE, Alert
from schemas.duration import DAY_MS, MINUTE_MS
from schemas.errors import BrokerError
from schemas.routing import PAGERS
from streams.clock import BrokerClock
from streams.kafka.admin import BrokerRefusedError, in_background
from streams.kafka.client import NOT_ALLOWED, Admin
from streams.kafka.topics import Drift, drifted
from streams.notifier.metrics import NotifierMetrics
from streams.notifier.notifier import Notifier
from streams.process.logs import fields
from streams.service_alert import (
    DELIVERIES_LOST,
    POLICIES_DIFFER,
    TOPICS_DIFFER,
    UNREADABLE_ALERTS,
    UNREADABLE_DELIVERIES,
    service_alert,
)
from streams.settings import Settings

log = logging.getLogger("spendfuse.alerting")

MOST_NAMED = 5
GRANT: Final = "python -m infra.kafka.access alerting --principal User:NAME prints the commands that grant it"
PATIENCE_MS: Final = 2 * MINUTE_MS
"""A policy that has just been published reaches one process before another."""
TOPICS_EVERY_S: Final = 25.0
"""Between two looks at the topics' settings."""
LOOKS_GRAVE: Final = 2
LOOKS: Final = 24
"""At so many looks one after another a difference must stand before it is told: what has no grave effect may be an
upgrade under way."""
FRESH_MS: Final = 10 * MINUTE_MS
"""A sign of life that is older tells of a time when another policy may have been in force."""


def unreadable_alert(partition: int, offset: int, reason: str, at_ms: int, policy_version: str) -> Alert:
    """One for all alerts of a day in a partition of alerts.v1 that cannot be read: whom they were to page is unknown.

    Args:
        partition: of alerts.v1.
        offset: of the record, the first of the day to be looked at.
        reason: why it cannot be read.
        at_ms: now.
        policy_version: of the policy in force.
    """
    return service_alert(
        UNREADABLE_ALERTS,
        partition,
        at_ms,
        policy_version,
        about=[at_ms // DAY_MS],
        severity="error",
        level=1.0,
        value=1,
        unit="records",
        evidence={"offset": offset, "reason": reason},
        summary=f"A record of alerts.v1, partition {partition}, offset {offset}, cannot be read: nobody was told of "
        "it, nor is anybody of others like it today.",
        next_action="Look what it is, as docs/runbooks/alerts-unreadable.md says. A newer worker wrote it? Bring "
        "alerting to the same version.",
    )


def unreachable_alert(
    receiver: str, since_ms: int, why: str, *, pages: bool, partition: int, at_ms: int, policy_version: str
) -> Alert:
    """A receiver has taken nothing for a while. One a day: said again after a restart, it is the same alert.

    Args:
        receiver: its name in the policy.
        since_ms: since when every attempt has failed.
        why: why the last one did, in words.
        pages: whether it is what wakes people, or alerts that page somebody wait there.
        partition: whoever owns it says so.
        at_ms: now.
        policy_version: of the policy in force.
    """
    return service_alert(
        RECEIVER_UNREACHABLE,
        partition,
        at_ms,
        policy_version,
        about=(receiver, at_ms // DAY_MS),
        said="pages wait" if pages else "open",
        severity="error" if pages else "warning",
        level=1.0 if pages else 0.5,
        value=max(0, at_ms - since_ms),
        unit="ms",
        evidence={"receiver": receiver, "why": why, "since_ms": since_ms},
        summary=f"The receiver {receiver!r} could not be reached from {time_of_day(since_ms)} on: {why}.",
        next_action="What pages is tried until it arrives, and sent to its fallback, if it has one. Mend the way "
        "there: docs/runbooks/circuit-open.md.",
    )


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


def deliveries_lost_alert(partition: int, unsent: int | None, at_ms: int, policy_version: str) -> Alert:
    """The log of deliveries has lost records. One a day for a partition.

    Args:
        partition: of deliveries.v1.
        unsent: how many alerts of the last day were read whose entries are gone; None where a process that runs has
            written all of it again.
        at_ms: now.
        policy_version: of the policy in force.
    """
    if unsent is None:
        text = (
            "has lost records, or was made anew. What is still to be sent was written again from memory; it would be "
            "lost had alerting been restarted before."
        )
    else:
        text = (
            f"is empty, although {unsent} alerts of the last day were read: what of them was still to be sent is lost, "
            "and so are silences. Incidents that are open are told again with their next reminder."
        )
    return service_alert(
        DELIVERIES_LOST,
        partition,
        at_ms,
        policy_version,
        about=[at_ms // DAY_MS],
        said="written again" if unsent is None else "lost",
        severity="warning" if unsent is None else "error",
        level=0.5 if unsent is None else 1.0,
        value=unsent or 0,
        unit="records",
        evidence={"records": unsent or 0},
        summary=f"deliveries.v1, partition {partition}, {text}",
        next_action="Look what is open: python -m streams incidents. Then find who deleted the topic or its records: "
        "docs/runbooks/deliveries-set-aside.md.",
    )


class ReceiverWatch:
    """Remembers what was said of receivers that take nothing."""

    def __init__(self) -> None:
        self._said: dict[str, Alert] = {}
        """Receiver -> the last alert that it cannot be reached."""

    def news(
        self,
        name: str,
        gate: Gate,
        waiting: int,
        overdue_pages: int,
        *,
        partition: int,
        now_ms: int,
        policy_version: str,
    ) -> Alert | None:
        """What is to be said of a receiver: that it cannot be reached, once a day while something waits there, or that
        it can again.
        """
        said = self._said.get(name)
        if gate.is_unreachable(now_ms):
            if not waiting:
                return None
            pages = overdue_pages > 0 or gate.receiver.type in PAGERS
            alert = unreachable_alert(
                name, gate.failing_since_ms, gate.why,
                pages=pages, partition=partition, at_ms=now_ms, policy_version=policy_version,
            )  # fmt: skip
            self._said[name] = alert
            return None if said is not None and said.alert_id == alert.alert_id else alert
        if said is None or not gate.is_well:  # after a change of the policy nobody knows at first
            return None
        del self._said[name]
        return replace(
            said,
            alert_id=derived_id(said.incident_id, "resolved", now_ms),
            state="resolved",
            ts_ms=now_ms,
            summary=f"The receiver {name!r} takes messages again.",
        )

    def forget(self) -> None:
        """Others say so from here on."""
        self._said.clear()


class PolicyWatch:
    """Remembers since when a partition's worker names another policy than ours: each sign of life names its own."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[str, int]] = {}
        """Partition -> the worker's version, and since when it is not ours."""
        self._said: dict[int, str] = {}
        """Partition -> the id of the last alert about it."""

    def beat(self, number: int, beat: Alert, ours: str, now_ms: int) -> None:
        """Take note of a partition's sign of life."""
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
        alert = policies_alert(partition, theirs, ours, now_ms)
        if self._said.get(partition) == alert.alert_id:
            return None
        self._said[partition] = alert.alert_id
        return alert

    def forget(self) -> None:
        """Others answer for the partitions from here on."""
        self._since.clear()


class TopicsWatch:
    """Compares the settings of the topics with their declarations. Nobody else notices before records are missing."""

    def __init__(
        self,
        settings: Settings,
        policy: Callable[[], Policy],
        notifier: Notifier,
        metrics: NotifierMetrics,
        brokers: BrokerClock,
    ) -> None:
        self._settings = settings
        self._policy = policy
        self._notifier = notifier
        self._metrics = metrics
        self._brokers = brokers
        self._admin = Admin(settings)
        self._looks: dict[Drift, int] = {}
        """Difference -> the looks at which it stood, up to the last."""
        self._told: list[Drift] = []
        self._seen: set[str] = set()
        """Topics that were there at some look."""
        self._not_known = ""
        """Why a look failed, as it was said last."""

    async def run(self) -> None:
        """Look for as long as nobody ends it, and have people told once a day of what is not mended."""
        while True:
            # A broker that does not answer holds up nobody's end.
            found = await asyncio.wrap_future(in_background(self._look, "topics-watch"))
            self._looks = {each: self._looks.get(each, 0) + 1 for each in found}
            lasting = [each for each in found if self._looks[each] >= (LOOKS_GRAVE if each.effect else LOOKS)]
            self._metrics.topics_differ.set(len(lasting))
            if lasting:
                await self._tell(lasting)
            self._told = lasting
            await asyncio.sleep(TOPICS_EVERY_S)

    async def _tell(self, lasting: list[Drift]) -> None:
        if lasting != self._told:
            log.warning("topics are not as declared", extra=fields(differences=[each.text for each in lasting]))
        await self._notifier.submit(topics_alert(lasting, self._brokers.now_ms(), self._policy().version))

    def _look(self) -> list[Drift]:
        settings = self._settings
        try:
            return drifted(self._admin, settings.prefix, settings.state_generation, seen=self._seen)
        except (BrokerError, KafkaException) as error:
            if str(error) != self._not_known:
                right = GRANT if isinstance(error, BrokerRefusedError) and error.code in NOT_ALLOWED else ""
                log.warning("whether topics are as declared is not known", extra=fields(error=str(error), advice=right))
            self._not_known = str(error)
            return list(self._looks)


def topics_alert(found: Sequence[Drift], at_ms: int, policy_version: str) -> Alert:
    """One a day for the same differences: said again after a restart, it is the same alert."""
    differences = [each.text for each in found]
    more = f" and {len(differences) - MOST_NAMED} more" if len(differences) > MOST_NAMED else ""
    effects = "".join(f" {effect}" for effect in dict.fromkeys(each.effect for each in found if each.effect))
    return service_alert(
        TOPICS_DIFFER,
        0,
        at_ms,
        policy_version,
        about=(*differences, at_ms // DAY_MS),
        severity="error" if effects else "warning",
        level=1.0 if effects else 0.5,
        value=len(differences),
        unit="settings",
        evidence={"differences": differences[:MOST_NAMED]},
        summary=f"Topics are not as declared: {'; '.join(differences[:MOST_NAMED])}{more}.{effects}",
        next_action="python -m streams topics check shows all of them, and python -m streams topics apply mends them. "
        "See docs/runbooks/topics-differ.md.",
    )


def policies_alert(partition: int, theirs: str, ours: str, at_ms: int) -> Alert:
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
