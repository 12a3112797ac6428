"""A real Kafka for tests, wherever this machine can get one, and three plain drivers to write, read and wait."""

import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Protocol, TypeVar, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from infra.kafka.jars import KAFKA_VERSION, KafkaUnavailableError, missing_tools
from infra.kafka.local import QUICK_START, LocalKafka, archive_classes, free_ports, wait_until_it_answers
from infra.kafka.settings import broker_settings
from schemas.signing import REPEAT_HEADER, is_key_check
from schemas.topics import topic_name
from streams.kafka.leaders import watermarks

ADDRESS_SETTING = "SPENDFUSE_KAFKA_BOOTSTRAP"
DEMAND_SETTING = "REQUIRE_KAFKA"

Source = Literal["address", "container", "local"]
Header = tuple[str, bytes | None]
Found = TypeVar("Found")

_IMAGE = f"apache/kafka:{KAFKA_VERSION}"
_ENGINE_TIMEOUT_S = 2
_CONTAINER_PORT = 9092


class RealKafka(Protocol):
    """A running Apache Kafka."""

    bootstrap: str

    def stop(self) -> None:
        """End it, if the tests started it."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a real Kafka can come from on this machine, best first, and what stands in the way of the others."""

    usable: tuple[Source, ...]
    obstacles: tuple[str, ...]

    def __str__(self) -> str:
        words = {
            "address": f"{ADDRESS_SETTING} ({os.environ.get(ADDRESS_SETTING)})",
            "container": f"a container of {_IMAGE}",
            "local": f"a local process, Kafka {KAFKA_VERSION}",
        }
        return words[self.usable[0]] if self.usable else f"none: {'; '.join(self.obstacles)}"


def find_sources() -> Sources:
    """Look where a real Kafka can come from: an address given, a container engine, Java. Starts and fetches nothing."""
    if os.environ.get(ADDRESS_SETTING):
        return Sources(("address",), ())
    usable: list[Source] = []
    obstacles = [f"{ADDRESS_SETTING} is not set"]
    faults: dict[Source, str | None] = {"container": _engine_fault(), "local": missing_tools()}
    for source, fault in faults.items():
        if fault is None:
            usable.append(source)
        else:
            obstacles.append(fault)
    return Sources(tuple(usable), tuple(obstacles))


def start_kafka(java_options: Sequence[str] = QUICK_START) -> RealKafka:
    """A real Kafka from the first source that works; one of our own runs with these options of Java.

    Raises:
        KafkaUnavailableError: none does; the message says why, source by source.
    """
    sources = find_sources()
    faults = list(sources.obstacles)
    starters: dict[Source, Callable[[], RealKafka]] = {
        "address": _GivenKafka,
        "container": _ContainerKafka,
        "local": partial(_local_kafka, java_options),
    }
    for source in sources.usable:
        try:
            return starters[source]()
        except KafkaUnavailableError as error:
            faults.append(f"{source}: {error}")
    raise KafkaUnavailableError("; ".join(faults))


def _local_kafka(java_options: Sequence[str]) -> LocalKafka:
    archive_classes()
    return LocalKafka(java_options=java_options)


def demanded() -> bool:
    """Whether this run must have a real Kafka, as continuous integration does."""
    return os.environ.get(DEMAND_SETTING) == "1"


class _GivenKafka:
    """The broker whose address the environment gives; somebody else starts and stops it."""

    def __init__(self) -> None:
        self.bootstrap = os.environ[ADDRESS_SETTING]
        wait_until_it_answers(self.bootstrap, fault=lambda: None)

    def stop(self) -> None:
        pass


class _ContainerKafka:
    """Apache Kafka in a container of its own."""

    def __init__(self) -> None:
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - slow, and only where there is an engine

        self._container = DockerContainer(_IMAGE)
        host, port = self._container.get_docker_client().host(), free_ports(1)[0]
        self.bootstrap = f"{host}:{port}"
        settings = broker_settings(self.bootstrap, f"0.0.0.0:{_CONTAINER_PORT}", "localhost:9093")
        for name, value in settings.items():
            self._container.with_env("KAFKA_" + name.replace(".", "_").upper(), value)
        self._container.with_bind_ports(_CONTAINER_PORT, port)
        try:
            self._container.start()
            wait_until_it_answers(self.bootstrap, fault=lambda: None)
        except Exception as error:
            # The engine's ways to fail (no image, no network, no right) are many; each means: try the next source.
            self._container.stop()
            raise KafkaUnavailableError(f"{_IMAGE} does not run: {error}") from error

    def stop(self) -> None:
        self._container.stop()


def _engine_fault() -> str | None:
    """Why no container engine can be used, or None."""
    try:
        import docker  # type: ignore[import-untyped]  # noqa: PLC0415 - a development dependency

        docker.from_env(timeout=_ENGINE_TIMEOUT_S).ping()
    except Exception as error:  # whatever it is, there is no engine to use
        return f"no container engine answers ({type(error).__name__})"
    return None


@dataclass(frozen=True, slots=True)
class TopicSpace:
    """A broker with a full set of topics under a prefix that nobody else uses."""

    bootstrap: str
    prefix: str
    partitions: int

    def name(self, topic: str) -> str:
        """A declared topic's name on the broker."""
        return topic_name(self.prefix, topic)


def fresh_prefix() -> str:
    """A prefix for topics that no other test has."""
    return f"test-{uuid.uuid4().hex[:12]}."


def delete_topics(bootstrap: str, prefix: str) -> None:
    """Remove what a test left on a broker that others use after it."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    names = [name for name in admin.list_topics(timeout=10).topics if name.startswith(prefix)]
    for future in admin.delete_topics(names, request_timeout=10).values() if names else ():
        future.result(20)


@dataclass(frozen=True, slots=True)
class Record:
    """A record to write, or as read: then partition, offset and timestamp are known."""

    value: bytes | None
    key: bytes | None = None
    headers: tuple[Header, ...] = ()
    timestamp_ms: int | None = None
    partition: int | None = None
    offset: int | None = None


def produce(
    bootstrap: str,
    topic: str,
    records: Iterable[Record],
    timeout_s: float = 30.0,
    idempotent: bool = True,
    login: Mapping[str, str] | None = None,
) -> list[Record]:
    """Write records in order; returns them with partition and offset. `login` is what the client needs to log in.

    An idempotent producer takes half a second to start. Without idempotence a batch that the broker made the client
    send again stands in the log twice: fine where single records and no offsets are looked at.

    Raises:
        KafkaException: the broker refused one, or did not acknowledge all within the time.
    """
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": idempotent,
            "partitioner": "murmur2_random",
            "max.in.flight.requests.per.connection": 1,  # keeps the order without idempotence too
            "linger.ms": 1,
            "log_level": 2,
        }
        | dict(login or {})
    )
    sent = list(records)
    acknowledged: dict[int, Message] = {}
    refused: list[KafkaError] = []

    def note(index: int) -> Callable[[KafkaError | None, Message], None]:
        def on_delivery(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                refused.append(error)
            acknowledged[index] = message

        return on_delivery

    for index, record in enumerate(sent):
        _enqueue(producer, topic, record, note(index))
    producer.flush(timeout_s)
    if refused:
        raise KafkaException(refused[0])
    if len(acknowledged) < len(sent):
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{len(acknowledged)} of {len(sent)} acknowledged"))
    # Not the acknowledged timestamp: the embedded broker makes that one up.
    return [
        replace(record, partition=acknowledged[index].partition(), offset=acknowledged[index].offset())
        for index, record in enumerate(sent)
    ]


def _enqueue(
    producer: Producer, topic: str, record: Record, on_delivery: Callable[[KafkaError | None, Message], None]
) -> None:
    producer.produce(
        topic,
        value=record.value,
        key=record.key,
        headers=list(record.headers),
        timestamp=record.timestamp_ms or 0,
        partition=-1 if record.partition is None else record.partition,
        on_delivery=on_delivery,
    )
    producer.poll(0)


def read_all(
    bootstrap: str,
    topic: str,
    isolation: Literal["read_committed", "read_uncommitted"] = "read_committed",
    until: Callable[[Sequence[Record]], bool] | None = None,
    timeout_s: float = 30.0,
    login: Mapping[str, str] | None = None,
) -> list[Record]:
    """Every record of a topic, partition by partition in the order of offsets. `login` as for `produce`.

    Reads to the ends of the partitions as they stand at the call; with `until`, on beyond them until it holds.

    Raises:
        AssertionError: that was not reached within the time.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"reader-{uuid.uuid4().hex}",
            "isolation.level": isolation,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 10,
            "log_level": 2,
        }
        | dict(login or {})
    )
    try:
        return sorted(_drain(consumer, topic, until, timeout_s), key=lambda each: (each.partition, each.offset))
    finally:
        consumer.close()


def commands_on(bootstrap: str, topic: str, login: Mapping[str, str] | None = None) -> list[Record]:
    """What was commanded on a control topic, each once: without key checks, and without what is written once more."""
    return [record for record in read_all(bootstrap, topic, login=login) if is_told_once(record)]


def is_told_once(record: Record) -> bool:
    """Whether a record of an output topic is neither a key check nor a command that is written once more."""
    return not is_key_check(record.key) and REPEAT_HEADER not in dict(record.headers)


def _drain(
    consumer: Consumer, topic: str, until: Callable[[Sequence[Record]], bool] | None, timeout_s: float
) -> list[Record]:
    unread = _assign_from_start(consumer, topic, timeout_s)
    records: list[Record] = []
    deadline = time.monotonic() + timeout_s
    while unread if until is None else not until(records):
        assert time.monotonic() < deadline, f"{topic}: {len(records)} records after {timeout_s} s, unread: {unread}"
        for message in consumer.consume(10_000, 0.05):
            error = message.error()
            if error is None:
                records.append(to_record(message))
            elif error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            # The end may be a transaction's marker, which is never handed out: then only the end-of-partition event
            # says that it was reached. It carries the next offset, a record its own.
            _note_read(unread, message, reached=_offset(message) + (error is None))
    return records


def _note_read(unread: dict[int, int], message: Message, reached: int) -> None:
    partition = message.partition()
    if partition is not None and reached >= unread.get(partition, reached + 1):
        del unread[partition]


def _offset(message: Message) -> int:
    offset = message.offset()
    assert offset is not None, "a consumed message has an offset"
    return offset


def _assign_from_start(consumer: Consumer, topic: str, timeout_s: float) -> dict[int, int]:
    """Assign all partitions from their first records; the end offset of each that is not empty."""
    partitions = consumer.list_topics(topic, timeout=timeout_s).topics[topic].partitions
    assert partitions, f"there is no topic {topic}"
    starts: list[TopicPartition] = []
    ends: dict[int, int] = {}
    for partition in partitions:
        low, high = watermarks(consumer, TopicPartition(topic, partition), timeout_s)
        starts.append(TopicPartition(topic, partition, low))
        if high > low:
            ends[partition] = high
    consumer.assign(starts)
    return ends


def wait_settled(bootstrap: str, topics: Sequence[str], timeout_s: float = 40.0) -> None:
    """Wait until no transaction is open on the topics. A dead worker's stays open until the broker gives it up, and
    what others committed behind it is not readable before that.
    """
    levels = ("read_committed", "read_uncommitted")
    group = f"settled-{uuid.uuid4().hex}"
    readers = [
        Consumer({"bootstrap.servers": bootstrap, "group.id": group, "isolation.level": level, "log_level": 2})
        for level in levels
    ]
    try:
        places = [
            TopicPartition(topic, partition)
            for topic in topics
            for partition in readers[0].list_topics(topic, timeout=timeout_s).topics[topic].partitions
        ]

        def settled() -> bool:
            ends = [[watermarks(reader, place, timeout_s)[1] for place in places] for reader in readers]
            return ends[0] == ends[1]

        wait_until(settled, timeout_s, "no transaction is open")
    finally:
        for reader in readers:
            reader.close()


def to_record(message: Message) -> Record:
    """A client's message as a plain value that compares and prints."""
    headers = cast("list[Header]", message.headers() or [])
    return Record(
        value=message.value(),
        key=message.key(),
        headers=tuple(headers),
        timestamp_ms=message.timestamp()[1],
        partition=message.partition(),
        offset=message.offset(),
    )


def wait_until(predicate: Callable[[], Found | None], timeout_s: float, what: str) -> Found:
    """Ask until the answer is true, and return it.

    Raises:
        AssertionError: it was not within the time; says `what` was awaited.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        answer = predicate()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)
