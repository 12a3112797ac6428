"""Every metric that a sink has, with what it means."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector


class SinkMetrics:
    """The numbers of the process. One instance a process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.records = Counter(
            "spendfuse_sink_records", "Records of a topic that were read", ["topic"], registry=registry
        )
        self.rows = Counter(
            "spendfuse_sink_rows", "Rows handed to a table, repeats included", ["table"], registry=registry
        )
        self.skipped = Counter(
            "spendfuse_sink_skipped", "Records that are in no table, by why", ["topic", "reason"], registry=registry
        )
        self.lost_offsets = Counter(
            "spendfuse_sink_lost_offsets",
            "Offsets that the broker had deleted before they were read: the store lacks them",
            ["topic"],
            registry=registry,
        )
        self.write_seconds = Histogram(
            "spendfuse_sink_write_seconds", "How long a batch took to write", registry=registry
        )
        self.behind_offsets = Gauge("spendfuse_sink_behind_offsets", "Offsets not in the store yet", registry=registry)
        self.behind_seconds = Gauge(
            "spendfuse_sink_behind_seconds",
            "For how long the store has not come to where the topics ended",
            registry=registry,
        )
        self.store_away_seconds = Gauge(
            "spendfuse_sink_store_away_seconds", "For how long the store has taken nothing", registry=registry
        )
        self.policy_faults = Counter("spendfuse_policy_faults", "Policies that were refused", registry=registry)
        self.broker_away_seconds = Gauge(
            "spendfuse_broker_away_seconds", "For how long no broker has answered", registry=registry
        )
