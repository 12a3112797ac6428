"""Several topics read together: committed records of a stretch of time, in the order of their appends."""

from collections import deque
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from tqdm import tqdm

from schemas.errors import BrokerError
from streams.clock import seconds
from streams.kafka.admin import existing_topics
from streams.kafka.client import silent
from streams.kafka.leaders import ask_leader
from streams.kafka.partitioner import partition_of
from streams.kafka.whole_topic import ANSWER_S, PATIENCE_S, ends_of, make_reader
from streams.settings import Settings

CHUNK = 10_000
MOST_HELD = 20_000
"""Records of a partition that wait for those of others; beyond it the partition is not read on."""

Place = tuple[str, int]


def records_between(
    settings: Settings,
    names: Sequence[str],
    since_ms: int,
    until_ms: int,
    *,
    key: bytes | None = None,
    progress: bool = False,
) -> Iterator[Any]:
    """The records of these topics appended from `since_ms` to before `until_ms`, oldest first.

    A partition's records keep their order, also where a producer's clock went back; between partitions the time of the
    append decides, and where that is the same, the order of `names`. Reading ends where the topics end now. With a
    `key`, only the partitions are read in which its records belong.

    Raises:
        BrokerError: no broker answers, a topic is missing, or its end was not reached in time.
    """
    consumer = make_reader(settings)
    topics = [settings.topic(name) for name in names]
    try:
        ends: dict[Place, int] = {}
        on_broker = existing_topics(settings, names)
        for topic in topics:
            home = None if key is None else partition_of(key, len(on_broker[topic].partitions))
            found = ends_of(consumer, settings, topic)  # of partitions that hold anything
            ends |= {(topic, number): end for number, end in found.items() if home in (None, number)}
        starts = _starts(consumer, settings, ends, since_ms)
        left = sum(ends[place] - start for place, start in starts.items())
        with tqdm(total=left, desc="reading", unit=" offsets", disable=None if progress else True, leave=False) as bar:
            merge = _Merge(consumer, topics, starts, {place: ends[place] for place in starts}, bar)
            for message in merge.messages():
                if since_ms <= message.timestamp()[1] < until_ms:
                    yield message
    finally:
        consumer.close()


def _starts(consumer: Consumer, settings: Settings, ends: dict[Place, int], since_ms: int) -> dict[Place, int]:
    """The first offset of each partition whose record was appended at or after `since_ms`."""
    asked = [TopicPartition(topic, number, since_ms) for topic, number in ends]
    try:
        found = offsets_at(consumer, asked)
    except KafkaException as error:
        reason = error.args[0].str()
        raise BrokerError(silent(settings.kafka_bootstrap, settings.kafka_security_protocol, reason)) from None
    starts = {(one.topic, one.partition): one.offset for one in found}
    return {place: start for place, start in starts.items() if 0 <= start < ends[place]}


def offsets_at(consumer: Consumer, asked: list[TopicPartition]) -> list[TopicPartition]:
    """The first offset appended at or after the time given in each partition's place; negative where there is none.

    A broker that knows no times, as the embedded one, says that there is none since 1970 either: then it is the first.

    Raises:
        KafkaException: nobody answers, or not for each partition.
    """
    found = ask_leader(lambda: _at_times(consumer, asked), ANSWER_S)
    unsure = [TopicPartition(one.topic, one.partition, 0) for one in found if one.offset < 0]
    ever = ask_leader(lambda: _at_times(consumer, unsure), ANSWER_S)
    timeless = {(one.topic, one.partition) for one in ever if one.offset < 0}
    return [
        TopicPartition(one.topic, one.partition, 0) if (one.topic, one.partition) in timeless else one for one in found
    ]


def _at_times(consumer: Consumer, asked: list[TopicPartition]) -> list[TopicPartition]:
    """The offset of each partition at the time given in its place.

    Raises:
        KafkaException: nobody answers, or not for each partition: one that is passed over would be read as empty.
    """
    found = consumer.offsets_for_times(asked, timeout=ANSWER_S) if asked else []
    for one in found:
        if one.error is not None:
            raise KafkaException(one.error)
    return found


class _Merge:
    """One consumer of many partitions, whose records wait until none before them can come."""

    def __init__(
        self, consumer: Consumer, topics: list[str], starts: dict[Place, int], ends: dict[Place, int], bar: "tqdm[Any]"
    ) -> None:
        self._consumer = consumer
        self._rank = {topic: number for number, topic in enumerate(topics)}
        self._ends = ends
        self._reached = dict(starts)
        self._bar = bar
        self._waiting: dict[Place, deque[tuple[int, Any]]] = {place: deque() for place in starts}
        """Records with the latest time of their partition so far."""
        self._latest_ms = dict.fromkeys(starts, 0)
        self._heads: list[tuple[int, int, Place]] = []
        """A heap of the oldest that waits of each partition."""
        self._unread = set(starts)
        self._missing = set(starts)
        """Partitions not read to their ends of which nothing waits: what comes next may be theirs."""
        self._paused: set[Place] = set()
        consumer.assign([TopicPartition(topic, number, start) for (topic, number), start in starts.items()])

    def messages(self) -> Iterator[Any]:
        """All records up to the ends, merged."""
        while self._heads or self._missing:
            while self._missing:
                self._read()
            if not self._heads:
                return
            _, _, place = heappop(self._heads)
            waiting = self._waiting[place]
            yield waiting.popleft()[1]
            if waiting:
                heappush(self._heads, (waiting[0][0], self._rank[place[0]], place))
            elif place in self._unread:
                self._missing.add(place)
            if place in self._paused and len(self._waiting[place]) < MOST_HELD // 2:
                self._paused.discard(place)
                self._consumer.resume([TopicPartition(*place)])

    def _read(self) -> None:
        """Wait for more records. Raises `BrokerError`."""
        deadline = seconds() + PATIENCE_S
        while not (messages := self._consumer.consume(CHUNK, 0.1)):
            if seconds() > deadline:
                names = ", ".join(f"{topic}/{number}" for topic, number in sorted(self._unread))
                raise BrokerError(
                    f"not read to the end within {PATIENCE_S:.0f} s: {names}. A transaction that nobody ends holds "
                    "readers up; find its writer"
                )
        for message in messages:
            self._take(message)
        full = {place for place in self._unread - self._paused if len(self._waiting[place]) >= MOST_HELD}
        if full:
            self._paused |= full
            self._consumer.pause([TopicPartition(*place) for place in full])

    def _take(self, message: Any) -> None:
        place = (message.topic(), message.partition())
        error, offset = message.error(), message.offset()
        if error is None:
            if offset < self._ends[place]:
                self._latest_ms[place] = max(self._latest_ms[place], message.timestamp()[1])
                self._wait(place, message)
            offset += 1
        elif error.code() != KafkaError._PARTITION_EOF:
            raise BrokerError(f"{place[0]} cannot be read: {error.str()}")
        self._bar.update(max(0, min(offset, self._ends[place]) - self._reached[place]))
        self._reached[place] = max(self._reached[place], offset)
        if offset >= self._ends[place]:
            self._unread.discard(place)
            self._missing.discard(place)

    def _wait(self, place: Place, message: Any) -> None:
        waiting, latest_ms = self._waiting[place], self._latest_ms[place]
        if not waiting:
            heappush(self._heads, (latest_ms, self._rank[place[0]], place))
            self._missing.discard(place)
        waiting.append((latest_ms, message))
