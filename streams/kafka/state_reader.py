"""Reading the changelog of a partition: the newest row of every key, up to the true end of the topic."""

from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from schemas.errors import BrokerError
from streams.clock import seconds
from streams.kafka.client import make_consumer, refuse_without_rights
from streams.kafka.leaders import watermarks
from streams.settings import Settings

Rows = dict[bytes, bytes]
CHUNK = 10_000
QUERY_TIMEOUT_S = 15.0


class ChangelogStalled(BrokerError):  # it says which one, and how far it was read
    """A changelog brings nothing any more, and its end is not reached."""


class StateReader:
    """Reads a changelog, state.v1 unless another is named, with one consumer for all partitions asked for."""

    def __init__(self, settings: Settings, on_progress: Callable[[], None], topic: str = "state.v1") -> None:
        self._settings = settings
        self._topic = settings.topic(topic)
        self._on_progress = on_progress

    def read(self, partitions: Iterable[int]) -> dict[int, Rows]:
        """The rows of each partition, deleted ones left out. Raises `ChangelogStalled` if the end is not reached.

        The end is the high watermark: the last committed transaction may not have moved the last stable offset yet.
        Rows are read committed, so that what a dead worker left open never counts; until its transaction has timed
        out, reading waits.
        """
        ends = self._ends(partitions)
        rows: dict[int, Rows] = {partition: {} for partition in ends}
        open_ends = {partition: end for partition, end in ends.items() if end > 0}
        if not open_ends:
            return rows
        consumer = self._consumer("read_committed")
        try:
            consumer.assign([TopicPartition(self._topic, partition, OFFSET_BEGINNING) for partition in open_ends])
            self._drain(consumer, rows, open_ends)
        finally:
            consumer.close()
        return rows

    def _drain(self, consumer: Consumer, rows: dict[int, Rows], open_ends: dict[int, int]) -> None:
        deadline = seconds() + self._settings.restore_timeout_s
        while open_ends:
            if seconds() > deadline:
                raise ChangelogStalled(
                    f"the changelog {self._topic} was not read to its end within "
                    f"{self._settings.restore_timeout_s} s; partitions left: {sorted(open_ends)}"
                )
            messages = consumer.consume(CHUNK, 0.02)
            self._on_progress()
            for message in messages:
                _take(message, rows, open_ends)
            if messages:
                deadline = seconds() + self._settings.restore_timeout_s

    def _ends(self, partitions: Iterable[int]) -> dict[int, int]:
        consumer = self._consumer("read_uncommitted")
        ends = {}
        try:
            for partition in partitions:
                ends[partition] = watermarks(consumer, TopicPartition(self._topic, partition), QUERY_TIMEOUT_S)[1]
                self._on_progress()  # a dozen slow answers take longer than a loop may stand still
        finally:
            consumer.close()
        return ends

    def _consumer(self, isolation: str) -> Consumer:
        config = {
            "isolation.level": isolation,
            "queued.min.messages": 500_000,
            "fetch.message.max.bytes": 8 * 1024 * 1024,
        }
        return make_consumer(self._settings, f"spendfuse-restore-{self._settings.slot}", config)


def _take(message: Any, rows: dict[int, Rows], open_ends: dict[int, int]) -> None:
    partition = message.partition()
    error = message.error()
    if error is not None:
        if error.code() != KafkaError._PARTITION_EOF:
            refuse_without_rights(error)
            raise BrokerError(f"the changelog cannot be read: {error.str()}")
        if message.offset() >= open_ends.get(partition, 0):
            open_ends.pop(partition, None)
        return
    key, value = message.key() or b"", message.value()  # a topic that is not compacted takes records without a key
    if value is None:
        rows[partition].pop(key, None)
    else:
        rows[partition][key] = value
