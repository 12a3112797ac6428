"""The settings of a one-node broker for tests, benchmarks and a developer's machine: small, quick to start, strict."""

from collections.abc import Mapping
from pathlib import Path

_RIGHTS = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "false",
}
"""Nobody may do what nobody has allowed."""


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
        # A cluster of one has nobody to tell twice a second that nothing has happened: a third of what it costs idle.
        "metadata.max.idle.interval.ms": "0",
        # The cleaner looks often, so that a test of compaction need not wait, and takes little of the heap.
        "log.cleaner.backoff.ms": "500",
        "log.cleaner.dedupe.buffer.size": str(32 * 1024 * 1024),
        # Nor does it take a core to itself from those who share this machine: 64 MB at once made kills a second late.
        "log.cleaner.io.max.bytes.per.second": str(8 * 1024 * 1024),
    }
    return settings | dict(extra or {})


def login_settings(bootstrap: str, controller: str, logins: Mapping[str, str], mechanism: str) -> dict[str, str]:
    """What makes of `broker_settings` a broker that asks for a name and a password, and allows nothing by itself.

    Args:
        bootstrap: `host:port` that the broker binds and clients connect to.
        controller: `host:port` of the controller.
        logins: password by user name. The first is the administrator, who may do everything.
        mechanism: of SASL. With SCRAM the passwords are given when the log is formatted.
    """
    administrator, password = next(iter(logins.items()))
    itself = f'username="{administrator}" password="{password}"'
    match mechanism:
        case "PLAIN":
            module = "plain.Plain"
            itself += "".join(f' user_{name}="{theirs}"' for name, theirs in logins.items())
        case "OAUTHBEARER":
            module = "oauthbearer.OAuthBearer"
            itself = f'unsecuredLoginStringClaim_sub="{administrator}"'  # tokens without a signature are believed
        case _:
            module = "scram.Scram"
    return _RIGHTS | {
        "listeners": f"SASL_PLAINTEXT://{bootstrap},CONTROLLER://{controller}",
        "advertised.listeners": f"SASL_PLAINTEXT://{bootstrap}",
        "listener.security.protocol.map": "SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": mechanism,
        "sasl.mechanism.inter.broker.protocol": mechanism,
        f"listener.name.sasl_plaintext.{mechanism.lower()}.sasl.jaas.config": (
            f"org.apache.kafka.common.security.{module}LoginModule required {itself};"
        ),
        # The controller listens to nobody but this very process, which has no name there.
        "super.users": f"User:{administrator};User:ANONYMOUS",
    }


def certificate_settings(bootstrap: str, controller: str, folder: Path, administrator: str) -> dict[str, str]:
    """What makes of `broker_settings` a broker that knows its clients by their certificates.

    Args:
        bootstrap: `host:port` that the broker binds and clients connect to.
        controller: `host:port` of the controller.
        folder: where `ca.pem` is, and the broker's own `broker.pem` and `broker.key`.
        administrator: the name, in its certificate, of who may do everything.
    """
    store = folder / "broker-store.pem"
    store.write_text("".join((folder / f"broker.{part}").read_text(encoding="utf-8") for part in ("key", "pem")))
    return _RIGHTS | {
        "listeners": f"SSL://{bootstrap},CONTROLLER://{controller}",
        "advertised.listeners": f"SSL://{bootstrap}",
        "listener.security.protocol.map": "SSL:SSL,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "SSL",
        "ssl.client.auth": "required",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(store),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
        "ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/",
        "super.users": f"User:{administrator};User:broker;User:ANONYMOUS",
    }


def tls_listener_settings(store: Path, authority: Path) -> dict[str, str]:
    """What a listener named SASL_SSL needs in `server.properties`: TLS by these files, names and passwords by SCRAM,
    and nobody may do what nobody has allowed. The listener itself stands in `listeners`, which only its owner knows.

    Args:
        store: the broker's key and certificate.
        authority: the certificate of who signed it.
    """
    name = "listener.name.sasl_ssl"
    return _RIGHTS | {
        f"{name}.ssl.keystore.type": "PEM",
        f"{name}.ssl.keystore.location": str(store),
        f"{name}.ssl.truststore.type": "PEM",
        f"{name}.ssl.truststore.location": str(authority),
        f"{name}.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        f"{name}.scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
    }
