"""The dead man's switch: once a minute each partition says that it is alive, the way every alert goes.

A beat goes through the worker's transaction, alerts.v1, the alerting process and a receiver; an outside monitor pages
when it does not come. It is withheld unless all that stood in the partition's input when it was asked for has been
counted and is committed with it: a worker that hangs, lags or reads nothing is as silent as a dead one.
"""

import logging
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # offered, but not exported

from schemas.alert import WATCHDOG, Alert
from streams.clock import BrokerClock, monotonic_ms
from streams.kafka.client import Admin
from streams.kafka.positions import NOT_TOLD
from streams.process.logs import fields
from streams.process.metrics import Metrics
from streams.service_alert import service_alert
from streams.settings import Settings
from streams.worker.partition import Partition

log = logging.getLogger("spendfuse.dead_mans_switch")

QUERY_TIMEOUT_S = 10.0
ASK_AGAIN_MS = 5000
"""How soon to ask again where the broker gave no answer."""


class DeadMansSwitch:
    """Has the partitions of a worker beat for as long as they keep up."""

    def __init__(self, settings: Settings, metrics: Metrics, brokers: BrokerClock) -> None:
        self._settings = settings
        self._brokers = brokers
        self._metrics = metrics
        self._interval_ms = settings.watchdog_s * 1000
        self._topic = settings.topic("usage.v1")
        self._admin = Admin(settings)
        self._next_ms = 0
        self._ends: dict[int, Future[Any]] = {}

    def tick(self, partitions: Mapping[int, Partition]) -> None:
        """Once an interval ask how far the input goes; let those beat that have come so far since.

        Asked for is the end of everything written, not only of what is committed: behind a foreign transaction that
        hangs there are events that nobody gets to read.
        """
        now_ms = monotonic_ms()
        if self._interval_ms and partitions and now_ms >= self._next_ms:
            self._next_ms = now_ms + self._interval_ms
            self._ask(partitions)
        for number, future in list(self._ends.items()):
            partition = partitions.get(number)
            if partition is None:
                del self._ends[number]
            elif future.done() and _is_unanswered(future):
                del self._ends[number]
                self._ask_again(now_ms)
            elif future.done() and partition.read_to >= future.result().offset:
                del self._ends[number]
                partition.beat = self._beat(number, partition.engine.policy.version)

    def _ask(self, partitions: Mapping[int, Partition]) -> None:
        """Ends that were not reached by now are given up: one beat does not stand in for another."""
        if late := sorted(self._ends.keys() & partitions.keys()):
            log.warning("no beat: the end of the input was not reached in time", extra=fields(partitions=late))
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        asked = {TopicPartition(self._topic, number): latest for number in partitions}
        for number in partitions:
            self._metrics.beats.labels(number)  # one that never beats is to be seen as well
        futures = self._admin.list_offsets(
            asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=QUERY_TIMEOUT_S
        )
        self._ends = {each.partition: future for each, future in futures.items()}

    def _ask_again(self, now_ms: int) -> None:
        """With a new client: one that saw its broker go may ask for minutes with what it knew before, which the broker
        refuses (FENCED_LEADER_EPOCH).
        """
        self._admin = Admin(self._settings)
        self._next_ms = min(self._next_ms, now_ms + ASK_AGAIN_MS)

    def _beat(self, number: int, policy_version: str) -> Alert:
        """A beat tells of now. After two intervals without a newer one it would hide what it is there to show."""
        at_ms = self._brokers.now_ms()
        return service_alert(
            WATCHDOG,
            number,
            at_ms,
            policy_version,
            said=at_ms,
            severity="info",
            level=0.0,
            window_start_ms=at_ms,
            window_end_ms=at_ms + 2 * self._interval_ms,
            value=0,
            unit="",
            evidence={},
            summary=f"Partition {number} has counted all of its input.",
            next_action="Nothing. If this stops coming, see docs/runbooks/dead-mans-switch.md.",
        )


def _is_unanswered(future: Future[Any]) -> bool:
    return future.exception() is not None or future.result().offset == NOT_TOLD
