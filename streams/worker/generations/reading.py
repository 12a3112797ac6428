"""Stretches of partitions, read outside of the group: what was counted already, and what a changelog ends with."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from confluent_kafka import KafkaError, TopicPartition

from schemas.errors import BrokerError
from streams.clock import seconds
from streams.kafka.client import make_consumer, refuse_without_rights
from streams.kafka.leaders import watermarks
from streams.settings import Settings
from streams.worker.fence import FENCE_KEY, Fence, read_fence
from streams.worker_group import GROUP

QUERY_TIMEOUT_S: Final = 30.0
SILENCE_S: Final = 15.0
CHUNK: Final = 10_000
TAIL: Final = 64
"""Offsets at the end of a changelog among which its newest fence nearly always is, the last of its transaction."""


def bounds(settings: Settings, topic: str, number: int) -> tuple[int, int]:
    """First offset and end of a partition of the topic of that full name, what is not committed yet included."""
    consumer = make_consumer(settings, GROUP, {"isolation.level": "read_uncommitted"})
    try:
        return watermarks(consumer, TopicPartition(topic, number), QUERY_TIMEOUT_S)
    finally:
        consumer.close()


def records(
    settings: Settings, topic: str, stretches: Mapping[int, tuple[int, int]], alive: Callable[[], None] = lambda: None
) -> Iterator[Any]:
    """The committed records of the topic of that full name, partition by partition from the first of the two offsets
    to before the second. `alive` is called while they are awaited.

    Raises:
        BrokerError: nothing comes any more, and the end is not reached.
    """
    ends = {number: end for number, (low, end) in stretches.items() if end > low}
    if not ends:
        return
    consumer = make_consumer(settings, GROUP)
    try:
        consumer.assign([TopicPartition(topic, number, stretches[number][0]) for number in ends])
        while ends:
            messages = _more(consumer, alive)
            if not messages:
                raise BrokerError(f"{topic} could not be read up to offset {ends}, by partition")
            for message in messages:
                yield from _within(message, ends)
    finally:
        consumer.close()


def _within(message: Any, ends: dict[int, int]) -> Iterator[Any]:
    """The message, if it is a record before its partition's end; a partition that was read to its end is taken out."""
    error, number, offset = message.error(), message.partition(), message.offset()
    if error is not None and error.code() != KafkaError._PARTITION_EOF:
        refuse_without_rights(error)
        raise BrokerError(f"{message.topic()}[{number}]: {error.str()}")
    end = ends.get(number, 0)
    if error is None and offset < end:
        yield message
    if offset >= (end - 1 if error is None else end):
        ends.pop(number, None)


def _more(consumer: Any, alive: Callable[[], None]) -> list[Any]:
    """What comes next; nothing after a long silence."""
    deadline = seconds() + SILENCE_S
    while True:
        # Not in one call: it would wait on for a full chunk, at the end of each partition in vain.
        messages: list[Any] = consumer.consume(CHUNK, 0.1)
        alive()
        if messages or seconds() > deadline:
            return messages


def newest_fences(
    settings: Settings, numbers: Iterable[int], alive: Callable[[], None] = lambda: None
) -> dict[int, Fence]:
    """The fences that partitions of the changelog end with, of those that have any.

    Raises:
        BrokerError: the changelog cannot be read.
        StateError: a fence cannot be read.
    """
    topic = settings.topic("state.v1")
    consumer = make_consumer(settings, GROUP, {"isolation.level": "read_uncommitted"})
    try:
        left = {one: watermarks(consumer, TopicPartition(topic, one), QUERY_TIMEOUT_S) for one in numbers}
    finally:
        consumer.close()
    found: dict[int, bytes | None] = {}
    back = TAIL
    while left := {one: (low, end) for one, (low, end) in left.items() if end > low}:
        starts = {one: max(low, end - back) for one, (low, end) in left.items()}
        stretches = {one: (starts[one], end) for one, (_, end) in left.items()}
        newest = {m.partition(): m.value() for m in records(settings, topic, stretches, alive) if m.key() == FENCE_KEY}
        found |= newest
        left = {one: (low, starts[one]) for one, (low, _) in left.items() if one not in newest}
        back *= 16
    fences = {number: read_fence(number, value, 0) for number, value in found.items()}
    return {number: fence for number, fence in fences.items() if fence is not None}
