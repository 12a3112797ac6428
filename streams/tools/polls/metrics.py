"""Every metric that a poller has, with what it means."""

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector


class PollMetrics:
    """The numbers of the process. One instance a process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.written = Counter(
            "spendfuse_poll_written", "Calls that were found and written", ["source"], registry=registry
        )
        self.refused = Counter(
            "spendfuse_poll_unreadable", "Rows that could not be read as calls", ["source"], registry=registry
        )
        self.failures = Counter(
            "spendfuse_poll_failures", "Turns in which the system did not answer", ["source"], registry=registry
        )
        self.since_answer_seconds = Gauge(
            "spendfuse_poll_since_answer_seconds", "Since when no turn came to its end", ["source"], registry=registry
        )
        self.broker_away_seconds = Gauge(
            "spendfuse_broker_away_seconds", "For how long no broker has answered", registry=registry
        )
