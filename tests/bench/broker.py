"""The broker that the bench measures on, and logs of usage messages in it."""

import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # offered, but not exported

from schemas.topics import topic_name
from streams.kafka.client import Admin
from streams.kafka.topics import apply
from streams.settings import Settings
from tests.bench.load import Event
from tests.bench.machine import ANY_CORE, OTHER_CORE, on_core
from tests.support.kafka import delete_topics, find_sources, start_kafka

FLUSH_TIMEOUT_S = 120.0
HOUR_MS = 3_600_000


@contextmanager
def bench_broker(core: int = OTHER_CORE) -> Iterator[str]:
    """The address of a real Apache Kafka; one that the bench starts itself runs on `core`.

    Raises:
        KafkaUnavailableError: there is none on this machine; the message says why.
    """
    with on_core(core):
        kafka = start_kafka(java_options=())  # what is measured is a broker that has been compiled thoroughly
    try:
        yield kafka.bootstrap
    finally:
        kafka.stop()


def broker_note(core: int = OTHER_CORE, partitions: int = 1) -> str:
    """Where the broker comes from, where it runs, and what it keeps."""
    source = find_sources()
    pinned = "pinned to the other core" if core != ANY_CORE and source.usable[:1] == ("local",) else "not pinned"
    return f"broker: {source}, {partitions} partition{'s' if partitions > 1 else ''}, one copy, {pinned}"


@contextmanager
def fresh_topics(bootstrap: str, partitions: int = 1) -> Iterator[str]:
    """A full set of topics under a prefix of their own, removed afterwards. Gives the prefix."""
    prefix = f"bench-{uuid.uuid4().hex[:8]}."
    apply(Admin(Settings(kafka_bootstrap=bootstrap)), prefix, partitions=partitions, replication=1)
    try:
        yield prefix
    finally:
        delete_topics(bootstrap, prefix)


def make_topic(bootstrap: str, name: str) -> None:
    """Create a topic of one partition."""
    admin = Admin(Settings(kafka_bootstrap=bootstrap))  # held in a name: the request dies with its client
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)


def fill(bootstrap: str, prefix: str, events: Iterable[Event]) -> int:
    """Write events to usage.v1 with their own time as the append time, as fast as they come; returns how many."""
    producer = fast_producer(bootstrap, linger_ms=20)
    topic = topic_name(prefix, "usage.v1")
    written = 0
    for event in events:
        send(producer, topic, event)
        written += 1
    unsent = producer.flush(FLUSH_TIMEOUT_S)
    if unsent:
        raise TimeoutError(f"{unsent} of {written} events were not written within {FLUSH_TIMEOUT_S} s")
    return written


def fast_producer(bootstrap: str, linger_ms: int) -> Producer:
    """A producer that keeps order and waits for the broker's word, but not record by record."""
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "linger.ms": linger_ms,
            "compression.type": "lz4",
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 500_000,
            "queue.buffering.max.kbytes": 524_288,
            "log_level": 2,
        }
    )


def send(producer: Producer, topic: str, event: Event) -> None:
    """Hand one event to the producer, waiting while its buffer is full."""
    while True:
        try:
            producer.produce(topic, event.value, event.key, timestamp=event.ts_ms)
        except BufferError:
            producer.poll(0.05)
        else:
            return


def end_offset(bootstrap: str, topic: str) -> int:
    """The offset after the last record of the topic's only partition, transaction markers included."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench", "log_level": 2})
    try:
        return int(consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)[1])
    finally:
        consumer.close()


def start_across_an_hour(events: int, rate_per_s: float) -> int:
    """A start in epoch ms such that so many events lie half before and half after the last full hour possible."""
    half_ms = int(events / rate_per_s * 1000 / 2)
    now_ms = int(time.time() * 1000)
    return (now_ms - half_ms) // HOUR_MS * HOUR_MS - half_ms
