"""Every metric the enforcers have, with what it means."""

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector


class EnforcerMetrics:
    """The numbers of the process. One instance a process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.closed = Gauge(
            "spendfuse_enforcer_closed", "1 while it has closed its key", ["enforcer"], registry=registry
        )
        self.overdue_seconds = Gauge(
            "spendfuse_enforcer_overdue_seconds",
            "For how long its key has not been as the commands want it",
            ["enforcer"],
            registry=registry,
        )
        self.failures = Counter(
            "spendfuse_enforcer_failures", "Attempts that the provider did not confirm", ["enforcer"], registry=registry
        )
        self.blind = Gauge(
            "spendfuse_enforcer_blind", "1 while nobody knows what stands, and no key is switched", registry=registry
        )
        self.broker_away_seconds = Gauge(
            "spendfuse_broker_away_seconds", "For how long no broker has answered", registry=registry
        )
