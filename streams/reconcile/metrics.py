"""Every metric that reconciliation has, with what it means."""

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector


class ReconcileMetrics:
    """The numbers of the process. One instance a process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.difference_share = Gauge(
            "spendfuse_reconcile_difference_share",
            "How much of a day's figures the differences that are told come to, on the day where that is most",
            ["console", "report"],
            registry=registry,
        )
        self.days_not_known = Gauge(
            "spendfuse_reconcile_days_not_known",
            "Days that could not be compared at the last pass: of a report that was not had, or does not speak of them",
            ["console", "report"],
            registry=registry,
        )
        self.corrections = Counter(
            "spendfuse_reconcile_corrections",
            "Figures that a provider has changed after they were to be believed",
            ["console"],
            registry=registry,
        )
        self.since_pass_seconds = Gauge(
            "spendfuse_reconcile_since_pass_seconds", "Since when no pass came to its end", registry=registry
        )
        self.broker_away_seconds = Gauge(
            "spendfuse_broker_away_seconds", "For how long no broker has answered", registry=registry
        )
