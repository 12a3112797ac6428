"""What the worker says about itself: metrics and logs, after the fact was committed."""

import logging
from collections.abc import Iterable

from schemas.alert import Alert
from schemas.control import Command
from schemas.dead_letter import DeadLetter
from streams.logs import fields
from streams.metrics import Metrics
from streams.partition import Partition
from streams.transactions import Outcome

log = logging.getLogger("spendfuse.report")


class Reporter:
    """Counts what was committed, and logs every alert and command with the event that caused it."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._counted: dict[int, tuple[int, int, int, int]] = {}

    def committed(self, partitions: Iterable[Partition], outcome: Outcome) -> None:
        """A transaction is visible."""
        self._metrics.batches.inc()
        self._metrics.rows.inc(outcome.rows)
        for partition in partitions:
            self._count(partition)
        for effect in outcome.effects:
            match effect.value:
                case Alert() as alert:
                    self._alert(alert)
                case Command() as command:
                    self._command(command)
                case DeadLetter() as letter:
                    self._dead_letter(letter)

    def progress(self, partition: Partition, high: int) -> None:
        """How far a partition is."""
        if high >= 0:
            self._metrics.lag.labels(partition.number).set(max(0, high - partition.usage_offset - 1))

    def restored(self, partitions: Iterable[Partition], took_s: float) -> None:
        """Partitions were read back."""
        rows = 0
        for partition in partitions:
            rows += partition.restored_rows
            self._counted[partition.number] = (0, 0, 0, 0)
            self._metrics.applied.labels(partition.number).set(partition.usage_offset)
        self._metrics.restore_rows.set(rows)
        self._metrics.restore_seconds.set(took_s)
        log.info("state restored", extra=fields(rows=rows, seconds=round(took_s, 3)))

    def _count(self, partition: Partition) -> None:
        counts = partition.engine.counts
        now = (counts.events, counts.duplicates, counts.too_late, partition.unkeyed)
        before = self._counted.get(partition.number, (0, 0, 0, 0))
        counters = (self._metrics.events, self._metrics.duplicates, self._metrics.too_late, self._metrics.unkeyed)
        for counter, new, old in zip(counters, now, before, strict=True):
            counter.inc(new - old)
        self._counted[partition.number] = now
        self._metrics.applied.labels(partition.number).set(partition.usage_offset)

    def _alert(self, alert: Alert) -> None:
        self._metrics.alerts.labels(alert.rule, alert.state, alert.severity).inc()
        if alert.state == "resolved" and "cause_to_stop_ms" in alert.evidence:
            self._metrics.cause_to_stop_seconds.observe(alert.evidence["cause_to_stop_ms"] / 1000)
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
        log.warning(
            "dead letter",
            extra=fields(topic=letter.topic, partition=letter.partition, offset=letter.offset, reason=letter.reason),
        )
