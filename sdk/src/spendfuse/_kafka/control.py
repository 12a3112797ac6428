"""Commands out of Kafka, by way of confluent-kafka's consumer.

Two consumers, one thread each: the client lets one thread at a time into a consumer, and a question about a
partition's end may wait for as long as its leader is away.
"""

import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from spendfuse._client.environment import kafka_config, topic_prefix
from spendfuse._client.fork import never_free, tell_of_forks
from spendfuse._client.logging import LOG, RareWarning
from spendfuse._control.command import ControlRecord
from spendfuse._kafka.failures import is_missing, reason_of
from spendfuse._kafka.log import KafkaLog
from spendfuse._usage.wire import CONTROL_TOPIC

DEFAULTS: dict[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",
    "isolation.level": "read_committed",  # a command of an aborted transaction was never given
    "enable.partition.eof": True,
    "fetch.wait.max.ms": 10,
    "fetch.error.backoff.ms": 100,
    "reconnect.backoff.max.ms": 2_000,
    "allow.auto.create.topics": False,
}
PROBE_EVERY_S = 1.0
PROBE_UNREAD_EVERY_S = 0.1
PROBE_TIMEOUT_S = 2.0
MAX_BATCH = 1_000


class KafkaControl:
    """Reads `<prefix>control.v1` from its beginning, all partitions, without a consumer group's offsets.

    Freshness is evidence, not hope: every second a probe asks each partition's leader for the topic's end, and once
    everything up to there has been handed on, the knowledge is as fresh as the moment the probe was sent. A
    partition that is added while it runs is followed from the next probe on, and a topic that was made anew is read
    from its beginning.
    """

    def __init__(
        self, bootstrap: str | None = None, *, prefix: str | None = None, config: Mapping[str, Any] | None = None
    ) -> None:
        """`config` holds librdkafka settings (security, mostly) and wins over ours.

        What is left out comes from the environment, as for `KafkaTransport`.
        """
        self._topic = topic_prefix(prefix) + CONTROL_TOPIC
        self._settings: dict[str, Any] = {
            "error_cb": _log_error,
            "logger": KafkaLog(),
            **DEFAULTS,
            **kafka_config(bootstrap, config),
        }
        self._bootstrap = self._settings["bootstrap.servers"]
        self._trouble = RareWarning("%d failures to read the control topic: %s")
        self._reading: _Reading | None = _Reading(self._settings, self._topic)
        """None in a forked child that has not read yet."""
        tell_of_forks(self)

    def forked(self) -> None:
        """Leave to the parent what it reads with; a child begins anew."""
        if self._reading is not None:
            self._reading.abandon()
            self._reading = None

    def poll(self, timeout_s: float) -> list[ControlRecord]:
        """Return the next records, waiting at most `timeout_s` for the first."""
        if self._reading is None:
            self._reading = _Reading(self._settings, self._topic)
        return self._reading.poll(timeout_s, self._trouble)

    def fresh_at_s(self) -> float | None:
        """The monotonic time up to which the topic is known to have been read."""
        return None if self._reading is None else self._reading.fresh_at_s()

    def waiting_for(self) -> str | None:
        """Which broker, topic or partition it waits for; None if it has read all that is there."""
        reading = self._reading
        failure = None if reading is None else reading.probe.failure
        if reading is None or failure is not None or (ends := reading.probe.latest) is None:
            return f"an answer of {self._bootstrap} about {self._topic}: {failure or 'none so far'}"
        for partition, end in ends.by_partition.items():
            if (position := reading.positions.get(partition, 0)) < end:
                return (
                    f"partition {partition} of {self._topic}, read up to {position} of {end}; if that stays so, a "
                    "transaction that nobody ends hides the rest"
                )
        return None

    def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.close()


class _Reading:
    """The topic, read from its beginning by two consumers of this process."""

    def __init__(self, settings: Mapping[str, Any], topic: str) -> None:
        settings = {"group.id": f"spendfuse-guard-{uuid.uuid4().hex}", **settings}
        self._topic = topic
        self._consumer = Consumer(settings)
        # All that was written, committed or not: behind a transaction that hangs are commands that nobody gets to read.
        self.probe = _EndsProbe(Consumer(settings | {"isolation.level": "read_uncommitted"}), topic)
        self.positions: dict[int, int] = {}
        """Partition -> the offset up to which it was read, of those that are followed."""
        self._moved_at_s: dict[int, float] = {}
        """Partition -> when (monotonic) it was read up to there."""
        self._incarnation = 0
        self._fresh_at_s: float | None = None

    def poll(self, timeout_s: float, trouble: RareWarning) -> list[ControlRecord]:
        self._follow_new()
        if not self.positions:
            self._consumer.poll(0)  # for its log
            self.probe.answered.wait(timeout_s)
            return []
        records: list[ControlRecord] = []
        message = self._consumer.poll(timeout_s)
        while message is not None:
            self._take(message, records, trouble)
            message = self._consumer.poll(0) if len(records) < MAX_BATCH else None
        return records

    def fresh_at_s(self) -> float | None:
        ends, positions = self.probe.latest, self.positions
        if ends is not None and all(
            positions.get(partition, -1) >= end for partition, end in ends.by_partition.items()
        ):
            self._fresh_at_s = ends.asked_at_s
            self.probe.every_s = PROBE_EVERY_S
        return self._fresh_at_s

    def close(self) -> None:
        self.probe.close()
        self._consumer.close()

    def abandon(self) -> None:
        """In a forked child: never touch the consumers again."""
        never_free(self._consumer)
        never_free(self.probe.consumer)

    def _follow_new(self) -> None:
        """Start at the beginning of every partition that the probe has found since; of all, if they are others."""
        ends = self.probe.latest
        if ends is None or (ends.by_partition.keys() <= self.positions.keys() and not self._is_another(ends)):
            return
        if self._is_another(ends):
            self._consumer.unassign()
            self.positions.clear()
            self._incarnation = ends.incarnation
        new = [partition for partition in ends.by_partition if partition not in self.positions]
        self._consumer.incremental_assign([TopicPartition(self._topic, p, OFFSET_BEGINNING) for p in new])
        for partition in new:
            self._move(partition, 0)

    def _is_another(self, ends: "_Ends") -> bool:
        """Whether the topic was made anew: it was away meanwhile, or ends before what was read of it earlier."""
        return ends.incarnation != self._incarnation or any(
            position > ends.by_partition.get(partition, position) and self._moved_at_s[partition] < ends.asked_at_s
            for partition, position in self.positions.items()
        )

    def _move(self, partition: int, position: int) -> None:
        self.positions[partition] = position
        self._moved_at_s[partition] = time.monotonic()

    def _take(self, message: Message, records: list[ControlRecord], trouble: RareWarning) -> None:
        error, partition, offset = message.error(), message.partition(), message.offset()
        if error is None:
            assert partition is not None
            assert offset is not None
            records.append(ControlRecord(message.value(), _headers(message), (partition, offset)))
            self._move(partition, offset + 1)
        elif error.code() == KafkaError._PARTITION_EOF:
            # Offsets of transaction markers carry no message: only the end-of-partition event tells they are behind us.
            if partition is not None and offset is not None and self.positions.get(partition) != offset:
                self._move(partition, offset)
        else:
            trouble.happened(error.str())


@dataclass(frozen=True, slots=True)
class _Ends:
    """The offset after the last record of each partition, as of `asked_at_s` (monotonic) or later."""

    asked_at_s: float
    by_partition: dict[int, int]
    incarnation: int
    """How often the topic was away before."""


class _EndsProbe:
    """Asks for the topic's partitions, which may become more, and for their ends."""

    def __init__(self, consumer: Consumer, topic: str) -> None:
        self.latest: _Ends | None = None
        self.failure: str | None = None
        """Why the last question had no answer."""
        self.answered = threading.Event()
        self.every_s = PROBE_UNREAD_EVERY_S
        self.consumer = consumer
        self._topic = topic
        self._incarnation = 0
        self._closing = threading.Event()
        self._trouble = RareWarning("%d failures to ask for the control topic's end: %s")
        self._thread = threading.Thread(target=self._work, name="spendfuse-control-probe", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End; a question that a dead leader keeps open is left behind, in its daemon thread."""
        self._closing.set()
        self._thread.join(PROBE_TIMEOUT_S)

    def _work(self) -> None:
        while not self._closing.is_set():
            try:
                asked_at_s = time.monotonic()
                self.latest = self._ends(self._partitions(), asked_at_s)
                self.failure = None
                self.answered.set()
            except KafkaException as exception:
                if is_missing(exception.args[0]) and self.latest is not None:
                    self._incarnation = self.latest.incarnation + 1
                self.failure = reason_of(exception.args[0], self._topic)
                self._trouble.happened(self.failure)
            self.consumer.poll(0)  # for its log: it is assigned nothing
            self._closing.wait(self.every_s)
        self.consumer.close()

    def _partitions(self) -> list[int]:
        topic = self.consumer.list_topics(self._topic, timeout=PROBE_TIMEOUT_S).topics[self._topic]
        if topic.error is not None or not topic.partitions:
            raise KafkaException(topic.error or KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        return sorted(topic.partitions)

    def _ends(self, partitions: list[int], asked_at_s: float) -> _Ends:
        ends: dict[int, int] = {}
        for partition in partitions:
            answer = self.consumer.get_watermark_offsets(
                TopicPartition(self._topic, partition), timeout=PROBE_TIMEOUT_S, cached=False
            )
            if answer is None:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            ends[partition] = answer[1]
        return _Ends(asked_at_s, ends, self._incarnation)


def _headers(message: Message) -> tuple[tuple[str, bytes | None], ...]:
    headers: Any = message.headers() or ()  # the stub allows shapes that only a producer may give
    return tuple((name, value.encode() if isinstance(value, str) else value) for name, value in headers)


def _log_error(error: KafkaError) -> None:
    LOG.debug("Kafka: %s", error.str())
