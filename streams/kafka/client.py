"""Every client of the brokers is made here, from the settings, so that none forgets how to log in."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from schemas.errors import BrokerError
from streams.settings import Settings

log = logging.getLogger("spendfuse.kafka")

LOGIN_FAULTS: Final = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL})
NOT_ALLOWED: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "to read, write or create one of its topics",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "to read one of its consumer groups",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "to create topics, or to write idempotently on the cluster",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "to write its transactional id",
}
"""What the broker refuses -> which right is missing, in words that follow `the right`."""
HOW_TO_GRANT: Final = (
    "All that each part needs is in infra/kafka/access.toml; `python -m infra.kafka.access --help` prints commands "
    "that grant it"
)
LOOK_AT_LOGIN: Final = "and, where the cluster asks for a login or TLS, SPENDFUSE_KAFKA_SECURITY_PROTOCOL"
"""Words to follow `set SPENDFUSE_KAFKA_BOOTSTRAP`: such a cluster is silent to whoever does not log in."""
WRITE_S: Final = 10.0
"""How long the broker may take to acknowledge a record that is written by itself."""
PATIENCE_S: Final = 5.0
"""How much longer than that the client may take to say so."""
_READING: Final[dict[str, Any]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    "fetch.wait.max.ms": 5,
}
_WRITING: Final[dict[str, Any]] = {
    "acks": "all",
    "enable.idempotence": True,
    "partitioner": "murmur2_random",  # as clients in Java have it, so that a key has one home
}


class Complaints:
    """What a client says about its own login, in the log once and for whoever asks why nothing answers."""

    def __init__(self) -> None:
        self.login: str | None = None
        """Why the broker does not let us in; None if it never said so."""

    def __call__(self, error: KafkaError) -> None:
        """Take note of an error that belongs to no request."""
        if error.code() in LOGIN_FAULTS and self.login is None:
            self.login = error.str()
            log.error("the broker refuses the login: %s", self.login)


class Admin(AdminClient):
    """A client to ask with; it connects when first used."""

    def __init__(self, settings: Settings) -> None:
        self.complaints = Complaints()
        self.address = settings.kafka_bootstrap
        self.protocol = settings.kafka_security_protocol
        # Failures come back as exceptions with a sentence; the client's own log would say them again and again.
        super().__init__(settings.kafka() | {"log_level": 0, "error_cb": self.complaints})


def make_consumer(settings: Settings, group: str, config: Mapping[str, object] | None = None) -> Consumer:
    """A consumer that reads committed records, from the beginning, says where a partition ends, and commits nothing.

    Args:
        settings: which cluster, how to log in, and the prefix of the group.
        group: the group's name without prefix. Every consumer has one, if only for its access rights.
        config: librdkafka settings that replace or add to these.
    """
    given: dict[str, Any] = settings.kafka() | _READING | {"error_cb": Complaints()}
    return Consumer(given | {"group.id": settings.group(group)} | dict(config or {}))


def make_producer(settings: Settings, config: Mapping[str, object] | None = None) -> Producer:
    """A producer whose acknowledged records are on all replicas, in order and once. `config` replaces or adds."""
    given: dict[str, Any] = settings.kafka() | _WRITING | {"error_cb": Complaints()}
    return Producer(given | dict(config or {}))


def flush(producer: Producer, timeout_s: float) -> int:
    """Wait until the broker has everything; returns how many records it has not.

    Raises:
        KafkaException: the client can do nothing any more, for instance because it may not write.
    """
    try:
        return producer.flush(timeout_s)
    except SystemError as error:  # a callback of ours ran after the client had raised that
        if isinstance(error.__cause__, KafkaException):
            raise error.__cause__ from None
        raise


def cause_of(producer: Producer, error: KafkaError) -> KafkaError:
    """What is behind a fatal error: whoever writes is told only that there is one, whoever waits, which."""
    try:
        if error.code() == KafkaError._FATAL:
            flush(producer, 0)
    except KafkaException as told:
        cause: KafkaError = told.args[0]
        return cause
    return error


def write_one(settings: Settings, topic: str, key: bytes, value: bytes, what: str) -> None:
    """Return when the broker has the record. `what` is called by its name where that fails.

    Raises:
        BrokerError: it has not said so in time, or does not allow it.
    """
    write_all(settings, topic, [(key, value)], what)


def write_all(settings: Settings, topic: str, records: Iterable[tuple[bytes, bytes]], what: str) -> None:
    """Return when the broker has all the records, keys with values. `what` is called by its name where that fails.

    Raises:
        BrokerError: it has not said so in time, or does not allow it; some of the records may be there.
    """
    # What fails is raised as an error, so that the client's log need not name it too.
    producer = make_producer(settings, {"delivery.timeout.ms": int(WRITE_S * 1000), "log_level": 0})
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: object) -> None:
        if error is not None:
            failures.append(error)

    for key, value in records:
        producer.produce(settings.topic(topic), value, key, on_delivery=delivered)
    try:
        left = flush(producer, WRITE_S + PATIENCE_S)
    except KafkaException as error:
        refuse_without_rights(error.args[0])
        raise BrokerError(f"{what} was not published: {error.args[0].str()}") from None
    if failures:
        refuse_without_rights(failures[0])
    if left or failures:
        said = failures[0].str() if failures else "no answer in time"
        raise BrokerError(f"{what} was not published: {said}")


def refuse_without_rights(error: KafkaError) -> None:
    """Raise `BrokerError` if the broker does not allow this client what it asked for: no use to try again."""
    missing = missing_right(error.code())
    if missing:
        raise BrokerError(f"the broker does not allow it: {error.str()}. {missing}")


def missing_right(code: int) -> str:
    """What is missing where the broker refuses with this code, and how to grant it; nothing for any other."""
    right = NOT_ALLOWED.get(code)
    return f"What is missing is the right {right}. {HOW_TO_GRANT}" if right else ""


def silent(address: str, protocol: str, reason: str) -> str:
    """That no broker answers there, and which settings to look at."""
    login = f", {LOOK_AT_LOGIN}" if protocol.upper() == "PLAINTEXT" else ""
    return f"no broker answers at {address} ({reason}); set SPENDFUSE_KAFKA_BOOTSTRAP{login}"
