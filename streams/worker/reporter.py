"""What the worker says about itself: metrics and logs, after the fact was committed."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from models.detectors.service.spending_after_kill import SpendingAfterKill
from schemas.alert import Alert
from schemas.control import Command
from schemas.dead_letter import DeadLetter
from streams.clock import monotonic_ms
from streams.process.logs import fields
from streams.process.metrics import Metrics
from streams.settings import Settings
from streams.worker.partition import Partition
from streams.worker.transactions import Outcome

log = logging.getLogger("spendfuse.report")

_NOTHING = (0,) * 7
"""Of what is counted, where nothing has been."""
MOST_MEASURED = 10_000
"""Commands remembered as measured: a later word about an older one would be measured again."""


@dataclass(slots=True)
class _Goal:
    """Where a partition's input ended at some time, and how far it was counted when last looked at."""

    end: int
    since_ms: int
    counted_to: int


class Reporter:
    """Counts what was committed, and logs every alert and command with the event that caused it."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._metrics = metrics
        self._orders = settings.topic("operator.v1")
        self._counted: dict[int, tuple[int, ...]] = {}
        self._goals: dict[int, _Goal] = {}
        self._measured: dict[str, None] = {}
        """Commands whose time to the stop was measured, the oldest first."""

    def committed(self, partitions: Iterable[Partition], outcome: Outcome) -> None:
        """A transaction is visible."""
        self._metrics.batches.inc()
        self._metrics.rows.inc(len(outcome.rows))
        self._metrics.repeated_commands.inc(outcome.repeats)
        for partition in partitions:
            self._count(partition)
        for number in outcome.beats:
            self._metrics.beats.labels(number).inc()
        for effect in outcome.effects:
            match effect.value:
                case Alert() as alert:
                    self._alert(alert)
                case Command() as command:
                    self._command(command)
                case DeadLetter() as letter:
                    self._dead_letter(letter)

    def progress(self, partition: Partition, high: int) -> None:
        """How far a partition is, since when it has not come to where its input ended then, and whether it may.

        What was read and is not committed is lag: a worker whose batches are all aborted reads to the end every time.
        """
        if high < 0:
            return
        number, counted_to, now_ms = partition.number, partition.counted_to, monotonic_ms()
        goal = self._goals.get(number)
        if goal is None or counted_to >= goal.end:
            goal = self._goals[number] = _Goal(high, now_ms, counted_to)
        behind = max(0, high - counted_to)
        # At the end of what may be read, and not a record further since: the rest is behind an open transaction.
        is_held = partition.at_end and not partition.moved and goal.end > counted_to == goal.counted_to
        held = behind if is_held and goal.since_ms < now_ms else 0
        goal.counted_to = counted_to
        self._metrics.lag.labels(number).set(behind)
        self._metrics.held.labels(number).set(held)
        self._metrics.lag_seconds.labels(number).set((now_ms - goal.since_ms) / 1000)

    def revoked(self) -> None:
        """Partitions have gone elsewhere: their lag is somebody else's to tell."""
        self._goals.clear()
        metrics = self._metrics
        for gauge in (metrics.lag, metrics.held, metrics.lag_seconds, metrics.tenants_waiting):
            gauge.clear()

    def restored(self, partitions: Iterable[Partition], took_s: float) -> None:
        """Partitions were read back."""
        rows = 0
        for partition in partitions:
            rows += partition.restored_rows
            self._counted[partition.number] = _NOTHING
            self._metrics.applied.labels(partition.number).set(partition.usage_offset)
        self._metrics.restore_rows.set(rows)
        self._metrics.restore_seconds.set(took_s)
        log.info("state restored", extra=fields(rows=rows, seconds=round(took_s, 3)))

    def _count(self, partition: Partition) -> None:
        counts = partition.engine.counts
        now = (
            counts.events, counts.duplicates, counts.too_late, counts.backfilled, partition.unkeyed,
            partition.misplaced_records, partition.floods,
        )  # fmt: skip
        before = self._counted.get(partition.number, _NOTHING)
        metrics = self._metrics
        counters = (
            metrics.events, metrics.duplicates, metrics.too_late, metrics.backfilled, metrics.unkeyed,
            metrics.misplaced, metrics.unreadable_floods,
        )  # fmt: skip
        for counter, new, old in zip(counters, now, before, strict=True):
            counter.inc(new - old)
        self._counted[partition.number] = now
        self._metrics.tenants_waiting.labels(partition.number).set(partition.engine.waiting)
        self._metrics.applied.labels(partition.number).set(partition.usage_offset)

    def _alert(self, alert: Alert) -> None:
        self._metrics.alerts.labels(alert.rule, alert.state, alert.severity).inc()
        if alert.detector == SpendingAfterKill.name and alert.state == "open":
            self._metrics.unanswered_kills.inc()
        self._stopped(alert)
        log.info(
            "alert",
            extra=fields(
                cause=alert.cause_event_id,
                alert_id=alert.alert_id,
                state=alert.state,
                severity=alert.severity,
                rule=alert.rule,
                tenant_id=alert.tenant_id,
                run_id=alert.run_id,
            ),
        )

    def _stopped(self, alert: Alert) -> None:
        """Measure how long a command took until it was obeyed: once, in however many alerts that is said."""
        took_ms, command_id = (alert.evidence.get(name) for name in ("cause_to_stop_ms", "command_id"))
        if took_ms is None:
            return
        measured = command_id or f"{alert.tenant_id}/{alert.run_id or alert.incident_id}/{took_ms}"
        if measured in self._measured:
            return
        self._measured[measured] = None
        if len(self._measured) > MOST_MEASURED:
            del self._measured[next(iter(self._measured))]
        self._metrics.cause_to_stop_seconds.observe(took_ms / 1000)

    def _command(self, command: Command) -> None:
        self._metrics.commands.labels(command.action).inc()
        log.info(
            "command",
            extra=fields(
                cause=command.cause_event_id,
                command_id=command.command_id,
                action=command.action,
                rule=command.rule,
                tenant_id=command.tenant_id,
                target=f"{command.target.type}/{command.target.id}",
            ),
        )

    def _dead_letter(self, letter: DeadLetter) -> None:
        self._metrics.dead_letters.labels(letter.reason).inc()
        if letter.topic == self._orders:
            self._metrics.refused_orders.labels(letter.reason).inc()
        if letter.reason == "too_late":
            return  # readable, maybe very many, and told of as the tenant's data quality
        log.warning(
            "dead letter",
            extra=fields(topic=letter.topic, partition=letter.partition, offset=letter.offset, reason=letter.reason),
        )
