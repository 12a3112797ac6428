"""control.v1 read from its beginning, outside of any group, and what of it the brokers no longer have.

Compaction keeps the last command of each target. Where somebody sets the topic to delete by age, raises its partitions,
or makes it anew, no record says so: it is seen from where the partitions begin and end.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from streams.kafka.client import make_consumer, refuse_without_rights
from streams.kafka.leaders import watermarks
from streams.process.logs import fields
from streams.settings import Settings

log = logging.getLogger("spendfuse.control")

QUERY_TIMEOUT_S: Final = 5.0
MOST_A_TICK: Final = 20_000


class ControlTopic:
    """Follows all partitions. Every call raises `BrokerError` where the broker does not allow it.

    Args:
        settings: which cluster, and the slot that names the reader.
        gone: called with a partition and an offset: what was read there from before it is on the topic no more.
    """

    def __init__(self, settings: Settings, gone: Callable[[int, int], None]) -> None:
        self._name = settings.topic("control.v1")
        self._gone = gone
        self._consumer: Consumer = make_consumer(settings, f"spendfuse-control-{settings.slot}")
        self._positions: dict[int, int] = {}
        """Partition -> the offset before which it has been read."""
        self._begins: dict[int, int] = {}
        self._ends: dict[int, int] | None = None
        """Where each partition began and ended at the last look; None while nobody has answered."""
        self._stood: dict[int, int] = {}
        """Partition -> the offset from which records are news."""
        self._was_missing = False

    @property
    def is_read(self) -> bool:
        """Whether it has been read to where it ended at the last look."""
        return self._ends is not None and all(self._positions.get(one, 0) >= end for one, end in self._ends.items())

    def look(self, *, afresh: bool) -> bool:
        """Ask where it begins and ends, and follow what is new. False where no broker says so.

        With `afresh`, what stands there now is no news.
        """
        try:
            bounds = self._bounds()
        except KafkaException as error:
            refuse_without_rights(error.args[0])
            log.warning("control.v1 cannot be read yet", extra=fields(error=error.args[0].str()))
            return False
        if not bounds:
            log.error("control.v1 is not there: python -m streams topics apply")
            self._was_missing = True
            return False
        is_first = self._ends is None
        self._ends = {number: end for number, (_, end) in bounds.items()}
        self._follow(bounds)
        if afresh or is_first:
            self._stood = dict(self._ends)
        return True

    def read(self) -> Iterator[tuple[Any, bool]]:
        """The records that have come, each with whether it is news."""
        for message in self._consumer.consume(MOST_A_TICK, 0.0):
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                refuse_without_rights(error)
                log.warning("control.v1 cannot be read", extra=fields(error=error.str()))
                continue
            number, offset = message.partition(), message.offset()
            assert number is not None, "a message has its place"
            assert offset is not None, "a message has its place"
            if offset < self._positions.get(number, 0):  # the client has found it made anew, and has begun again
                self._is_anew(number)
            self._positions[number] = offset if error is not None else offset + 1
            if error is None:
                yield message, offset >= self._stood.get(number, 0)

    def close(self) -> None:
        """Stop following."""
        self._consumer.close()

    def _bounds(self) -> dict[int, tuple[int, int]]:
        """Where each partition begins and ends; nothing while the topic is missing."""
        partitions = self._consumer.list_topics(self._name, timeout=QUERY_TIMEOUT_S).topics[self._name].partitions
        return {
            number: watermarks(self._consumer, TopicPartition(self._name, number), QUERY_TIMEOUT_S)
            for number in partitions
        }

    def _follow(self, bounds: dict[int, tuple[int, int]]) -> None:
        """Begin with partitions that were added, begin again with those that were made anew, leave those that went."""
        anew = [one for one, at in self._positions.items() if self._was_missing or bounds.get(one, (0, 0))[1] < at]
        self._was_missing = False
        for number in anew:
            log.warning("control.v1 was made anew", extra=fields(partition=number))
            self._is_anew(number)
        for number, (begin, _) in bounds.items():
            if begin > self._begins.get(number, 0):
                self._gone(number, begin)
        self._begins = {number: begin for number, (begin, _) in bounds.items()}
        if anew or bounds.keys() != self._positions.keys():
            self._positions = {number: self._positions.get(number, 0) for number in bounds}
            places = [
                TopicPartition(self._name, number, position or OFFSET_BEGINNING)
                for number, position in self._positions.items()
            ]
            self._consumer.assign(places)

    def _is_anew(self, number: int) -> None:
        self._gone(number, self._positions[number])
        self._positions[number] = self._stood[number] = self._begins[number] = 0
