"""Every metric the gateway has, with what it means."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from streams.process.metrics import LATENCY_BUCKETS_S


class GatewayMetrics:
    """The gateway's numbers. One instance a process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "spendfuse_gateway_requests", "Requests answered", ["source", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "spendfuse_gateway_request_seconds",
            "From a request's headers to its answer",
            ["source"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.accepted = Counter("spendfuse_gateway_accepted", "Messages taken", ["source"], registry=registry)
        self.observed = Counter(
            "spendfuse_gateway_observed", "Model calls that another source reports", ["source"], registry=registry
        )
        self.ignored = Counter(
            "spendfuse_gateway_ignored", "What was sent and says nothing of spend", ["source"], registry=registry
        )
        self.rejected = Counter(
            "spendfuse_gateway_rejected", "Messages that count as nothing", ["source", "reason"], registry=registry
        )
        self.verdicts = Counter(
            "spendfuse_gateway_verdicts", "Questions of guards answered", ["source", "decision"], registry=registry
        )
        self.control_streams = Gauge(
            "spendfuse_gateway_control_streams", "Guards that follow control.v1 over HTTP", registry=registry
        )
        self.control_cut = Counter(
            "spendfuse_gateway_control_cut", "Control streams cut off because nobody took them", registry=registry
        )
        self.undelivered = Counter(
            "spendfuse_gateway_undelivered", "Records that the brokers did not take in time", registry=registry
        )
        self.spooled = Counter("spendfuse_gateway_spooled", "Records written to the disk", registry=registry)
        self.spool_bytes = Gauge(
            "spendfuse_gateway_spool_bytes", "What is on the disk and on no broker", registry=registry
        )
        self.spool_limit_bytes = Gauge(
            "spendfuse_gateway_spool_limit_bytes", "What the disk may take", registry=registry
        )
        self.blind = Gauge(
            "spendfuse_gateway_blind",
            "1 while nobody knows what stands, so that whoever asks is told what its key was made for",
            registry=registry,
        )
        self.unfollowed_topics = Gauge(
            "spendfuse_unfollowed_topics", "Topics whose changes do not arrive any more", registry=registry
        )
        self.body_bytes = Gauge("spendfuse_gateway_body_bytes", "Bodies of requests under way", registry=registry)
        self.keys = Gauge("spendfuse_gateway_keys", "Keys known, revoked ones included", registry=registry)
        self.broker_away_seconds = Gauge(
            "spendfuse_broker_away_seconds", "For how long no broker has answered", registry=registry
        )
