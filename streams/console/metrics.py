"""Every metric the console has, with what it means."""

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector


class ConsoleMetrics:
    """The console's numbers. One instance a process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.streams = Gauge("spendfuse_console_streams", "Pages that follow changes", registry=registry)
        self.runs_followed = Gauge("spendfuse_console_runs_followed", "Runs whose calls are read", registry=registry)
        self.unreadable = Gauge("spendfuse_console_unreadable", "Records passed over", registry=registry)
        self.unfollowed_topics = Gauge(
            "spendfuse_unfollowed_topics", "Topics whose changes do not arrive any more", registry=registry
        )
        self.broker_away_seconds = Gauge(
            "spendfuse_broker_away_seconds", "For how long no broker has answered", registry=registry
        )
