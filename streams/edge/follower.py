"""A topic followed from its beginning, in a thread of its own: what it holds is known, and stays current."""

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from schemas.errors import BrokerError
from streams.clock import seconds
from streams.kafka.admin import existing_topics
from streams.kafka.client import make_consumer, missing_right
from streams.kafka.time_range import offsets_at
from streams.process.logs import fields
from streams.settings import Settings

log = logging.getLogger("spendfuse.follower")

READ_TIMEOUT_S: Final = 30.0
CHUNK: Final = 1000
WAIT_S: Final = 0.1
ANSWER_S: Final = 5.0
LOOK_EVERY_S: Final = 30.0
"""Between two looks whether the topic has been given more partitions."""


class Follower:
    """Hands every committed record of a topic to `take`, in order within a partition, while it is entered. Partitions
    that are added meanwhile are followed as well.

    Entering returns once everything that stands in the topic has been taken.

    Args:
        settings: which cluster.
        name: the topic, without prefix.
        take: called in the follower's own thread, with each record; tombstones included. It must not raise.
        since_ms: begin with what was appended from then on; None for the topic's beginning.
        patience_s: how long to wait, on entering, for what stands in the topic.

    Raises:
        BrokerError: when entered, if the topic is not there or cannot be read to its end in time.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        take: Callable[[Any], None],
        *,
        since_ms: int | None = None,
        patience_s: float = READ_TIMEOUT_S,
    ) -> None:
        self._since_ms = since_ms
        self._patience_s = patience_s
        self._settings = settings
        self._name = name
        self._take = take
        self._fault: str | None = None
        self._caught_up = threading.Event()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"follow-{name}", daemon=True)
        self._left: set[int] = set()
        self._followed: set[int] = set()

    def __enter__(self) -> Self:
        topic = self._settings.topic(self._name)
        self._left = set(existing_topics(self._settings, [self._name])[topic].partitions)
        self._thread.start()
        if not self._caught_up.wait(self._patience_s) or self._fault is not None:
            self._end.set()
            raise BrokerError(self._fault or f"{topic} could not be read within {self._patience_s:.0f} s")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join(READ_TIMEOUT_S)

    @property
    def fault(self) -> str | None:
        """Why the topic is not followed any more, in a sentence; None while it is."""
        if self._fault is not None:
            return self._fault
        is_over = self._caught_up.is_set() and not self._thread.is_alive()
        return f"{self._name} is not followed any more; the log says why" if is_over else None

    def _follow(self) -> None:
        topic = self._settings.topic(self._name)
        consumer = make_consumer(self._settings, "spendfuse-reader", {"fetch.wait.max.ms": 100})
        try:
            self._followed = set(self._left)
            consumer.assign(self._starts(consumer, topic))
            looked_s = seconds()
            while not self._end.is_set():
                self._read(consumer)
                if seconds() > looked_s + LOOK_EVERY_S:
                    looked_s = seconds()
                    self._follow_added(consumer, topic)
        finally:
            consumer.close()

    def _follow_added(self, consumer: Consumer, topic: str) -> None:
        try:
            partitions = set(consumer.list_topics(topic, timeout=ANSWER_S).topics[topic].partitions)
        except KafkaException as error:
            log.warning("the broker reports", extra=fields(topic=self._name, error=error.args[0].str()))
            return
        if added := sorted(partitions - self._followed):
            log.info("partitions were added", extra=fields(topic=self._name, partitions=added))
            consumer.incremental_assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in added])
            self._followed |= partitions

    def _starts(self, consumer: Consumer, topic: str) -> list[TopicPartition]:
        """Where each partition is read from: at the time that was asked for, or from its beginning if nobody says."""
        places = [TopicPartition(topic, number, OFFSET_BEGINNING) for number in sorted(self._left)]
        if self._since_ms is None:
            return places
        asked = [TopicPartition(topic, place.partition, self._since_ms) for place in places]
        try:
            found = offsets_at(consumer, asked)
        except KafkaException as error:
            log.warning("read from its beginning", extra=fields(topic=self._name, error=error.args[0].str()))
            return places
        return [TopicPartition(topic, one.partition, one.offset or OFFSET_BEGINNING) for one in found]

    def _read(self, consumer: Consumer) -> None:
        for message in consumer.consume(CHUNK, WAIT_S):
            error = message.error()
            if error is None or error.code() == KafkaError._PARTITION_EOF:
                self._fault = None
            if error is None:
                self._take(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._left.discard(message.partition())
            elif missing_right(error.code()):
                self._fault = f"the broker does not allow it: {error.str()}. {missing_right(error.code())}"
                self._caught_up.set()
            else:
                log.warning("the broker reports", extra=fields(topic=self._name, error=error.str()))
        if not self._left:
            self._caught_up.set()
