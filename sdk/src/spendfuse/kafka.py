"""Kafka, by way of confluent-kafka: `pip install "spendfuse[kafka]"`."""

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from spendfuse._command import ControlRecord
from spendfuse._logging import LOG, RareWarning
from spendfuse._transport import Done, Record, Undelivered
from spendfuse._wire import CONTROL_TOPIC, USAGE_TOPIC

try:
    from confluent_kafka import (
        OFFSET_BEGINNING,
        Consumer,
        KafkaError,
        KafkaException,
        Message,
        Producer,
        TopicPartition,
    )
except ImportError as missing:
    raise ImportError('spendfuse.kafka needs confluent-kafka: pip install "spendfuse[kafka]"') from missing

__all__ = ["KafkaControl", "KafkaTransport"]

PRODUCER_DEFAULTS: dict[str, Any] = {
    "enable.idempotence": True,
    "acks": "all",
    "delivery.timeout.ms": 30_000,  # then the emitter sends it again, under the same event id
    "linger.ms": 5,
    "partitioner": "murmur2_random",  # as Java's and aiokafka's: every producer must find a tenant's partition alike
    "reconnect.backoff.max.ms": 2_000,
}
CONSUMER_DEFAULTS: dict[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",
    "isolation.level": "read_committed",  # a command of an aborted transaction was never given
    "enable.partition.eof": True,
    "fetch.wait.max.ms": 10,
    "fetch.error.backoff.ms": 100,
    "reconnect.backoff.max.ms": 2_000,
}
PROBE_EVERY_S = 1.0
PROBE_TIMEOUT_S = 2.0
MAX_BATCH = 1_000

_NEVER_ACCEPTED = frozenset(
    (
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.INVALID_RECORD,
    )
)
"""Sending the same record again would end the same way."""


class KafkaTransport:
    """Produces to `<prefix>usage.v1`, idempotently, keyed by tenant, with the event's own time as record timestamp."""

    def __init__(
        self,
        bootstrap: str,
        *,
        prefix: str = "",
        config: Mapping[str, Any] | None = None,
        make_producer: Callable[[dict[str, Any]], Producer] = Producer,
    ) -> None:
        """`config` holds librdkafka settings (security, mostly) and wins over ours."""
        self._topic = prefix + USAGE_TOPIC
        self._config = {"bootstrap.servers": bootstrap, **PRODUCER_DEFAULTS, **(config or {}), "error_cb": _log_error}
        self._make_producer = make_producer
        self._producer = make_producer(self._config)

    def send(self, record: Record, done: Done) -> None:
        """Hand the record to the producer. Raises BufferError when its queue is full."""

        def delivered(error: KafkaError | None, _: Message) -> None:
            done(record, None if error is None else _undelivered(error))

        try:
            self._producer.produce(
                self._topic, value=record.value, key=record.key, timestamp=record.ts_ms, on_delivery=delivered
            )
        except KafkaException as exception:
            error = exception.args[0]
            done(record, _undelivered(error))
            if error.fatal():
                self._replace(error)

    def poll(self, timeout_s: float) -> None:
        """Serve delivery reports."""
        self._producer.poll(timeout_s)

    def close(self) -> None:
        """Drop what is still queued."""
        self._producer.purge()
        self._producer.flush(0.1)

    def _replace(self, error: KafkaError) -> None:
        """A producer after a fatal error sends nothing more: give back what it holds and make another."""
        LOG.warning("Kafka producer replaced after a fatal error: %s", error.str())
        self.close()
        self._producer = self._make_producer(self._config)


class KafkaControl:
    """Reads `<prefix>control.v1` from its beginning, all partitions, without a consumer group's offsets.

    Freshness is evidence, not hope: every second a probe asks each partition's leader for the topic's end, and once
    everything up to there has been handed on, the knowledge is as fresh as the moment the probe was sent. Partitions
    added while it runs are not followed.
    """

    def __init__(self, bootstrap: str, *, prefix: str = "", config: Mapping[str, Any] | None = None) -> None:
        """`config` holds librdkafka settings (security, mostly) and wins over ours."""
        self._topic = prefix + CONTROL_TOPIC
        group_id = f"spendfuse-guard-{uuid.uuid4().hex}"
        settings = {"bootstrap.servers": bootstrap, "group.id": group_id, **CONSUMER_DEFAULTS, **(config or {})}
        self._consumer = Consumer({**settings, "error_cb": _log_error})
        self._positions: dict[int, int] | None = None
        self._probed: tuple[float, dict[int, int]] | None = None
        self._fresh_at_s: float | None = None
        self._closing = threading.Event()
        self._trouble = RareWarning("%d failures to read the control topic: %s")
        self._prober = threading.Thread(target=self._probe, name="spendfuse-control-probe", daemon=True)
        self._prober.start()

    def poll(self, timeout_s: float) -> list[ControlRecord]:
        """Return the next records, waiting at most `timeout_s` for the first."""
        if self._positions is None:
            self._closing.wait(timeout_s)
            return []
        records: list[ControlRecord] = []
        message = self._consumer.poll(timeout_s)
        while message is not None:
            self._take(message, records)
            message = self._consumer.poll(0) if len(records) < MAX_BATCH else None
        return records

    def fresh_at_s(self) -> float | None:
        """The monotonic time up to which the topic is known to have been read."""
        positions = self._positions
        if self._probed is not None and positions is not None:
            asked_at_s, ends = self._probed
            if all(positions.get(partition, -1) >= end for partition, end in ends.items()):
                self._fresh_at_s = asked_at_s
        return self._fresh_at_s

    def close(self) -> None:
        """Stop reading."""
        self._closing.set()
        self._prober.join(2 * PROBE_TIMEOUT_S)
        self._consumer.close()

    def _take(self, message: Message, records: list[ControlRecord]) -> None:
        assert self._positions is not None
        error = message.error()
        partition, offset = message.partition(), message.offset()
        if error is None:
            assert partition is not None
            assert offset is not None
            records.append(ControlRecord(message.value(), _headers(message)))
            self._positions[partition] = offset + 1
        elif error.code() == KafkaError._PARTITION_EOF:
            # Offsets of transaction markers carry no message: only the end-of-partition event tells they are behind us.
            if partition is not None and offset is not None:
                self._positions[partition] = offset
        else:
            self._trouble.happened(error.str())

    def _probe(self) -> None:
        partitions: list[int] = []
        while not self._closing.is_set():
            try:
                if not partitions:
                    partitions = self._assign()
                self._ask_for_ends(partitions)
            except KafkaException as exception:
                self._trouble.happened(str(exception.args[0]))
            self._closing.wait(PROBE_EVERY_S if self._fresh_at_s is not None else PROBE_EVERY_S / 10)

    def _assign(self) -> list[int]:
        """Start at the beginning of every partition; none while the topic does not exist."""
        topic = self._consumer.list_topics(self._topic, timeout=PROBE_TIMEOUT_S).topics[self._topic]
        if topic.error is not None:
            raise KafkaException(topic.error)
        partitions = sorted(topic.partitions)
        self._consumer.assign([TopicPartition(self._topic, p, OFFSET_BEGINNING) for p in partitions])
        self._positions = dict.fromkeys(partitions, 0)
        return partitions

    def _ask_for_ends(self, partitions: list[int]) -> None:
        if not partitions:
            return
        asked_at_s = time.monotonic()
        ends: dict[int, int] = {}
        for partition in partitions:
            answer = self._consumer.get_watermark_offsets(
                TopicPartition(self._topic, partition), timeout=PROBE_TIMEOUT_S, cached=False
            )
            if answer is None:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            ends[partition] = answer[1]
        self._probed = (asked_at_s, ends)


def _undelivered(error: KafkaError) -> Undelivered:
    return Undelivered(error.str(), retriable=error.code() not in _NEVER_ACCEPTED)


def _headers(message: Message) -> tuple[tuple[str, bytes | None], ...]:
    headers: Any = message.headers() or ()  # the stub allows shapes that only a producer may give
    return tuple((name, value.encode() if isinstance(value, str) else value) for name, value in headers)


def _log_error(error: KafkaError) -> None:
    LOG.debug("Kafka: %s", error.str())
