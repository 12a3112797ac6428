"""Every metric of `python -m alerting`, with what it means."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from alerting.delivery.dispatcher import Owed
from alerting.effects import Failed, Send, Sent
from schemas.alert import Alert
from streams.process.metrics import LATENCY_BUCKETS_S


class TellingMetrics:
    """The numbers of one alerting process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.alerts = Counter("spendfuse_telling_alerts", "Alerts read", ["state", "severity"], registry=registry)
        self.orders = Counter("spendfuse_telling_orders", "Operators' messages read", registry=registry)
        self.unreadable = Counter(
            "spendfuse_telling_unreadable", "Records that could not be read", ["topic"], registry=registry
        )
        self.refused = Counter(
            "spendfuse_telling_refused", "Operators' messages with a bad signature", registry=registry
        )
        self.sent = Counter("spendfuse_telling_sent", "Messages said", ["receiver"], registry=registry)
        self.failed = Counter(
            "spendfuse_telling_failed", "Attempts that failed, by why", ["receiver", "reason"], registry=registry
        )
        self.owed = Gauge("spendfuse_telling_owed", "Alerts that are still to be told", ["receiver"], registry=registry)
        self.oldest = Gauge(
            "spendfuse_telling_oldest_owed_seconds", "How long the oldest has been due", ["receiver"], registry=registry
        )
        self.overdue_pages = Gauge(
            "spendfuse_telling_overdue_pages",
            "Due alerts that page and are not yet told",
            ["receiver"],
            registry=registry,
        )
        self.dropped = Counter(
            "spendfuse_telling_dropped", "Warnings that became a number", ["receiver"], registry=registry
        )
        self.circuit_open = Gauge(
            "spendfuse_telling_circuit_open", "1 while a receiver is not spoken to", ["receiver"], registry=registry
        )
        self.cause_to_sent = Histogram(
            "spendfuse_telling_cause_to_sent_seconds",
            "From an alert's cause to its message being said",
            ["receiver"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.lag = Gauge("spendfuse_telling_lag_records", "Alerts not yet read", ["partition"], registry=registry)
        self.partitions = Gauge("spendfuse_telling_partitions", "Partitions of alerts.v1 owned", registry=registry)
        self.policy_faults = Counter("spendfuse_telling_policy_faults", "Policies refused", registry=registry)

    def read(self, alert: Alert) -> None:
        """An alert was read."""
        self.alerts.labels(alert.state, alert.severity).inc()

    def said(self, send: Send, outcome: Sent) -> None:
        """A receiver has said a message."""
        self.sent.labels(send.receiver).inc()
        for alert in send.notice.alerts:
            self.cause_to_sent.labels(send.receiver).observe(max(0, outcome.at_ms - alert.ts_ms) / 1000)

    def not_said(self, send: Send, outcome: Failed) -> None:
        """A receiver has not said a message, or nobody knows."""
        self.failed.labels(send.receiver, outcome.reason).inc()

    def backlog(self, owed: Mapping[str, Iterable[Owed]], broken: Mapping[str, bool]) -> None:
        """What each receiver is owed by each partition, and whether its circuit is open."""
        for receiver, is_broken in broken.items():
            parts = list(owed.get(receiver, ()))
            self.owed.labels(receiver).set(sum(part.count for part in parts))
            self.oldest.labels(receiver).set(max((part.oldest_due_s for part in parts), default=0))
            self.overdue_pages.labels(receiver).set(sum(part.due_pages for part in parts))
            self.circuit_open.labels(receiver).set(is_broken)
            for counter in (self.sent, self.dropped):
                counter.labels(receiver)  # a series that begins with its first event hides that one from a rate

    def gone(self, receivers: Iterable[str]) -> None:
        """The policy names these receivers no more: what was true of them last is not true for ever."""
        for receiver in receivers:
            for gauge in (self.owed, self.oldest, self.overdue_pages, self.circuit_open):
                gauge.remove(receiver)
