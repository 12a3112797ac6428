"""The settings of a one-node broker for tests, benchmarks and a developer's machine: small, quick to start, strict."""

from collections.abc import Mapping


def broker_settings(
    advertised: str, listen: str, controller: str, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Kafka's `server.properties` as a dict; `extra` wins.

    Args:
        advertised: `host:port` that clients connect to.
        listen: `host:port` that the broker binds.
        controller: `host:port` of the controller, which is the same process.
        extra: settings that replace or add to these.
    """
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "listeners": f"PLAINTEXT://{listen},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{advertised}",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@{controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        # A test that forgets to make its topic must fail, not find one with the broker's defaults.
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        # One node: what Kafka keeps for itself cannot have three copies, and one partition each starts at once.
        "offsets.topic.num.partitions": "1",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # The cleaner looks often, so that a test of compaction need not wait, and takes little of the heap.
        "log.cleaner.backoff.ms": "500",
        "log.cleaner.dedupe.buffer.size": str(32 * 1024 * 1024),
    }
    return settings | dict(extra or {})
