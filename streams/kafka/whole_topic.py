"""Topics read whole: every committed record up to where the topic ends now, outside any consumer group's offsets."""

from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from tqdm import tqdm

from schemas.errors import BrokerError
from streams.clock import seconds
from streams.kafka.admin import require_topics, topics_on_broker
from streams.kafka.client import Admin, make_consumer, refuse_without_rights
from streams.kafka.leaders import watermarks
from streams.settings import Settings

CHUNK = 10_000
ANSWER_S = 15.0
PATIENCE_S = 60.0
"""Longer than any transaction may stay open: what a dead writer left open holds a reader up until then."""


def committed_records(
    settings: Settings,
    name: str,
    *,
    starts: Mapping[int, int] | None = None,
    ends: Mapping[int, int] | None = None,
    progress: bool = False,
) -> Iterator[Any]:
    """The topic's records, tombstones included; in order within a partition. With `starts`, of these partitions alone,
    from these offsets on, or from the first that is left.

    The end is `ends`, or the high watermark when reading begins, so that the newest committed transaction is never
    missed.

    Raises:
        BrokerError: no broker answers, there is no such topic, or its end was not reached in time.
    """
    topic = settings.topic(name)
    consumer = make_reader(settings)
    try:
        ends = ends_of(consumer, settings, topic) if ends is None else ends
        if starts is not None:
            ends = {number: end for number, end in ends.items() if starts.get(number, end) < end}
        begin = dict.fromkeys(ends, 0) if starts is None else {number: starts[number] for number in ends}
        total = sum(ends.values()) - sum(begin.values())
        with tqdm(total=total, desc=name, unit=" offsets", disable=None if progress else True) as bar:
            yield from _until(consumer, topic, begin, ends, bar)
    finally:
        consumer.close()


def ends_of(consumer: Consumer, settings: Settings, topic: str) -> dict[int, int]:
    """Where each partition that holds anything ends. Raises `BrokerError`."""
    return {number: high for number, (low, high) in bounds_of(consumer, settings, topic).items() if high > low}


def bounds_of(consumer: Consumer, settings: Settings, topic: str) -> dict[int, tuple[int, int]]:
    """The first offset that each partition still has, and where it ends. Raises `BrokerError`."""
    found = topics_on_broker(Admin(settings))
    require_topics(found, [topic])
    try:
        return {
            number: watermarks(consumer, TopicPartition(topic, number), ANSWER_S) for number in found[topic].partitions
        }
    except KafkaException as error:
        raise BrokerError(f"the broker does not say where {topic} ends: {error.args[0].str()}") from None


def _until(
    consumer: Consumer, topic: str, starts: Mapping[int, int], ends: Mapping[int, int], bar: "tqdm[Any]"
) -> Iterator[Any]:
    # librdkafka stops between a partition's last record and the transaction markers after it only to say so: with an
    # event for the end of the partition, whose offset is the end of what is committed.
    left = dict(ends)
    reached = dict(starts)
    consumer.assign([TopicPartition(topic, number, start or OFFSET_BEGINNING) for number, start in starts.items()])
    deadline = seconds() + PATIENCE_S
    while left:
        messages: list[Any] = consumer.consume(CHUNK, 0.1)
        for message in messages:
            number, offset = message.partition(), message.offset()
            error = message.error()
            if error is None:
                if offset < ends[number]:
                    yield message
                offset += 1
            elif error.code() != KafkaError._PARTITION_EOF:
                refuse_without_rights(error)
                raise BrokerError(f"{topic} cannot be read: {error.str()}")
            bar.update(max(0, min(offset, ends[number]) - reached[number]))
            reached[number] = max(reached[number], offset)
            if offset >= ends[number]:
                left.pop(number, None)
        if messages:
            deadline = seconds() + PATIENCE_S
        elif seconds() > deadline:
            raise BrokerError(
                f"{topic} was not read to its end within {PATIENCE_S:.0f} s; partitions left: {sorted(left)}. "
                "A transaction that nobody ends holds readers up; find its writer"
            )


def make_reader(settings: Settings) -> Consumer:
    """A consumer that reads committed records from places of its own, outside any group's offsets."""
    return make_consumer(settings, "spendfuse-reader", {"queued.min.messages": 100_000, "log_level": 0})
