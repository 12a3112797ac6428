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
        # What a killed producer left open holds up readers for its own time-out, not for up to ten seconds more.
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
        # The cleaner looks often, so that a test of compaction need not wait, and takes little of the heap.
        "log.cleaner.backoff.ms": "500",
        "log.cleaner.dedupe.buffer.size": str(32 * 1024 * 1024),
    }
    return settings | dict(extra or {})


def login_settings(bootstrap: str, controller: str, logins: Mapping[str, str]) -> dict[str, str]:
    """What makes of `broker_settings` a broker that asks for a name and a password, and allows nothing by itself.

    Args:
        bootstrap: `host:port` that the broker binds and clients connect to.
        controller: `host:port` of the controller.
        logins: password by user name. The first is the administrator, who may do everything.
    """
    administrator, password = next(iter(logins.items()))
    users = " ".join(f'user_{name}="{theirs}"' for name, theirs in logins.items())
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    return {
        "listeners": f"SASL_PLAINTEXT://{bootstrap},CONTROLLER://{controller}",
        "advertised.listeners": f"SASL_PLAINTEXT://{bootstrap}",
        "listener.security.protocol.map": "SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": (
            f'{module} required username="{administrator}" password="{password}" {users};'
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        # The controller listens to nobody but this very process, which has no name there.
        "super.users": f"User:{administrator};User:ANONYMOUS",
    }
