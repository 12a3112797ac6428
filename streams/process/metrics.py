"""Every metric the worker has, with what it means."""

from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from schemas.dead_letter import Reason
from streams.clock import seconds

LATENCY_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)


class Metrics:
    """The worker's numbers. One instance a process, handed in where it is needed."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # memory, processor time and open files
        self._count_input(registry)
        self._measure_state(registry)
        self.alerts = Counter("spendfuse_alerts", "Alerts published", ["rule", "state", "severity"], registry=registry)
        self.commands = Counter("spendfuse_commands", "Commands published", ["action"], registry=registry)
        self.forged_commands = Counter(
            "spendfuse_forged_commands",
            "Records of control.v1 that no engine wrote, and deletions",
            registry=registry,
        )
        self.repeated_commands = Counter(
            "spendfuse_repeated_commands",
            "Commands written once more: gone, or not heard",
            registry=registry,
        )
        self.compiled = Gauge(
            "spendfuse_compiled", "1 where the engine is compiled, 0 where it is interpreted", registry=registry
        )
        self.batches = Counter("spendfuse_batches", "Transactions committed", registry=registry)
        self.aborts = Counter("spendfuse_aborts", "Transactions aborted", registry=registry)
        self.rows = Counter("spendfuse_rows", "Changelog rows written", registry=registry)
        self.steps = Counter("spendfuse_step_seconds", "Time spent per step of the loop", ["step"], registry=registry)
        self.batch_seconds = Histogram(
            "spendfuse_batch_seconds", "From taking a batch to its commit", buckets=LATENCY_BUCKETS_S, registry=registry
        )
        self.cause_to_stop_seconds = Histogram(
            "spendfuse_cause_to_stop_seconds",
            "From the cause of a kill to its acknowledgement",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.unanswered_kills = Counter(
            "spendfuse_unanswered_kills", "Kills that a run disobeyed, or did not answer in time", registry=registry
        )
        self.beats = Counter(
            "spendfuse_watchdog_beats", "Signs of life of a partition on alerts.v1", ["partition"], registry=registry
        )
        self.uncommitted_seconds = Gauge(
            "spendfuse_uncommitted_seconds",
            "For how long what was to be committed could not be",
            registry=registry,
        )
        self.broker_away_seconds = Gauge(
            "spendfuse_broker_away_seconds", "For how long no broker has answered", registry=registry
        )
        self.host_clock_ahead_seconds = Gauge(
            "spendfuse_host_clock_ahead_seconds",
            "How far this host's clock is ahead of the brokers', negative where it is behind; 0 while that is unknown",
            registry=registry,
        )
        self.partitions = Gauge("spendfuse_partitions", "Partitions owned", registry=registry)
        self.topic_partitions = Gauge("spendfuse_topic_partitions", "Partitions of usage.v1", registry=registry)
        self.unattended_seconds = Gauge(
            "spendfuse_unattended_seconds",
            "For how long records of some partition of another worker have waited on which nobody works",
            registry=registry,
        )
        self.policy_faults = Counter("spendfuse_policy_faults", "Policies refused", registry=registry)

    def _count_input(self, registry: CollectorRegistry) -> None:
        """What was read, and what came of it."""
        self.events = Counter("spendfuse_events", "Usage messages counted", registry=registry)
        self.duplicates = Counter("spendfuse_duplicates", "Usage messages seen before", registry=registry)
        self.too_late = Counter("spendfuse_too_late", "Messages more than a day late, in no budget", registry=registry)
        self.backfilled = Counter("spendfuse_backfilled", "Messages of earlier days, booked", registry=registry)
        self.unkeyed = Counter("spendfuse_unkeyed", "Usage records without a key", registry=registry)
        self.misplaced = Counter(
            "spendfuse_misplaced",
            "Records of usage.v1 and operator.v1 found in another partition than their tenant's, and moved there",
            registry=registry,
        )
        self.dead_letters = Counter(
            "spendfuse_dead_letters", "Records that count nowhere", ["reason"], registry=registry
        )
        self.unreadable_floods = Counter("spendfuse_unreadable_floods", "Floods that were set aside", registry=registry)
        self.refused_orders = Counter(
            "spendfuse_refused_orders", "Records of operator.v1 that order nothing", ["reason"], registry=registry
        )
        for reason in get_args(Reason):
            self.dead_letters.labels(reason)  # a series that begins with its first letter hides that one from a rate
            self.refused_orders.labels(reason)

    def _measure_state(self, registry: CollectorRegistry) -> None:
        """How far each partition has come, and its state."""
        self.lag = Gauge("spendfuse_lag_records", "Records behind", ["partition"], registry=registry)
        self.held = Gauge(
            "spendfuse_held_records", "Records behind a transaction that is open", ["partition"], registry=registry
        )
        self.lag_seconds = Gauge(
            "spendfuse_lag_seconds",
            "For how long the input is not counted to where it ended",
            ["partition"],
            registry=registry,
        )
        self.applied = Gauge("spendfuse_applied_offset", "Last committed input", ["partition"], registry=registry)
        self.restoring = Gauge("spendfuse_restoring", "1 while state is read back", registry=registry)
        self.restore_rows = Gauge("spendfuse_restore_rows", "Rows of the last restore", registry=registry)
        self.restore_seconds = Gauge("spendfuse_restore_seconds", "Length of the last restore", registry=registry)
        self.tenants_waiting = Gauge(
            "spendfuse_tenants_waiting",
            "Tenants that another policy has not reached yet",
            ["partition"],
            registry=registry,
        )

    def step(self, step: str, since: float) -> float:
        """Count the time since `since` for a step of the loop; returns now."""
        now = seconds()
        self.steps.labels(step).inc(now - since)
        return now
