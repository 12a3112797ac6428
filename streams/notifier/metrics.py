"""Every metric of `python -m alerting`, with what it means."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from alerting.delivery.dispatcher import Pending
from alerting.effects import Failed, Send, Sent
from schemas.alert import Alert
from streams.process.metrics import LATENCY_BUCKETS_S


class NotifierMetrics:
    """The numbers of one alerting process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # memory, processor time and open files
        self.alerts = Counter("spendfuse_alerting_alerts", "Alerts read", ["state", "severity"], registry=registry)
        self.orders = Counter("spendfuse_alerting_orders", "Operators' messages read", registry=registry)
        self.unreadable = Counter(
            "spendfuse_alerting_unreadable", "Records that could not be read", ["topic"], registry=registry
        )
        self.set_aside = Gauge(
            "spendfuse_alerting_set_aside",
            "Entries of deliveries.v1 that cannot be read",
            ["partition"],
            registry=registry,
        )
        self.refused = Counter(
            "spendfuse_alerting_refused", "Operators' messages with a bad signature", registry=registry
        )
        self.sent = Counter("spendfuse_alerting_sent", "Messages sent", ["receiver"], registry=registry)
        self.failed = Counter(
            "spendfuse_alerting_failed", "Attempts that failed, by why", ["receiver", "reason"], registry=registry
        )
        self.pending = Gauge(
            "spendfuse_alerting_pending", "Deliveries that are still to be sent", ["receiver"], registry=registry
        )
        self.oldest = Gauge(
            "spendfuse_alerting_oldest_pending_seconds",
            "How long the oldest has been due",
            ["receiver"],
            registry=registry,
        )
        self.settled = Gauge(
            "spendfuse_alerting_settled_alerts", "Alerts read up to when nothing was due", registry=registry
        )
        self._alerts_read = 0
        self.overdue_pages = Gauge(
            "spendfuse_alerting_overdue_pages",
            "Due alerts that page and are not yet sent",
            ["receiver"],
            registry=registry,
        )
        self.dropped = Counter(
            "spendfuse_alerting_dropped", "Warnings that became a number", ["receiver"], registry=registry
        )
        self.circuit_open = Gauge(
            "spendfuse_alerting_circuit_open", "1 while nothing is sent to a receiver", ["receiver"], registry=registry
        )
        self.cause_to_sent = Histogram(
            "spendfuse_alerting_cause_to_sent_seconds",
            "From an alert's cause to its message being sent",
            ["receiver"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.lag = Gauge("spendfuse_alerting_lag_records", "Alerts not yet read", ["partition"], registry=registry)
        self.broker_away_seconds = Gauge(
            "spendfuse_alerting_broker_away_seconds", "For how long no broker has answered", registry=registry
        )
        self.host_clock_ahead_seconds = Gauge(
            "spendfuse_alerting_host_clock_ahead_seconds",
            "How far this host's clock is ahead of the brokers', negative where it is behind; 0 while that is unknown",
            registry=registry,
        )
        self.partitions = Gauge("spendfuse_alerting_partitions", "Partitions of alerts.v1 owned", registry=registry)
        self.policy_faults = Counter("spendfuse_alerting_policy_faults", "Policies refused", registry=registry)
        self._compare(registry)

    def _compare(self, registry: CollectorRegistry) -> None:
        """What is otherwise than it should be, beside alerting."""
        self.policies_differ = Gauge(
            "spendfuse_alerting_policies_differ",
            "Partitions whose worker has decided by another policy than alerting's for two minutes",
            registry=registry,
        )
        self.topics_differ = Gauge(
            "spendfuse_alerting_topics_differ",
            "Settings of topics that have not been as declared for ten minutes",
            registry=registry,
        )

    def alert_read(self, alert: Alert) -> None:
        """An alert was read."""
        self.alerts.labels(alert.state, alert.severity).inc()
        self._alerts_read += 1

    def message_sent(self, send: Send, outcome: Sent) -> None:
        """A receiver has accepted a message."""
        self.sent.labels(send.receiver).inc()
        for alert in send.notice.alerts:
            self.cause_to_sent.labels(send.receiver).observe(max(0, outcome.at_ms - alert.ts_ms) / 1000)

    def message_failed(self, send: Send, outcome: Failed) -> None:
        """A receiver has not accepted a message, or nobody knows."""
        self.failed.labels(send.receiver, outcome.reason).inc()

    def backlog(self, pending: Mapping[str, Iterable[Pending]], broken: Mapping[str, bool], waiting: int) -> None:
        """What each partition has pending at each receiver, whether its circuit is open, and how much was read that
        nobody has looked at yet.
        """
        is_anything_due = waiting > 0
        for receiver, is_broken in broken.items():
            parts = list(pending.get(receiver, ()))
            oldest_s = max((part.oldest_due_s for part in parts), default=0)
            is_anything_due |= oldest_s > 0
            self.pending.labels(receiver).set(sum(part.count for part in parts))
            self.oldest.labels(receiver).set(oldest_s)
            self.overdue_pages.labels(receiver).set(sum(part.overdue_pages for part in parts))
            self.circuit_open.labels(receiver).set(is_broken)
            for counter in (self.sent, self.dropped):
                counter.labels(receiver)  # a series that begins with its first event hides that one from a rate
        if not is_anything_due:
            self.settled.set(self._alerts_read)

    def gone(self, receivers: Iterable[str]) -> None:
        """The policy names these receivers no more: their gauges would show what was true once."""
        for receiver in receivers:
            for gauge in (self.pending, self.oldest, self.overdue_pages, self.circuit_open):
                gauge.remove(receiver)
