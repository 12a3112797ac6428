"""Records into Kafka, by way of confluent-kafka's producer."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from spendfuse._client.environment import kafka_config, topic_prefix
from spendfuse._client.fork import never_free, tell_of_forks
from spendfuse._client.logging import LOG, RareWarning
from spendfuse._kafka.broker_time import BrokerTime, Stamp
from spendfuse._kafka.failures import reason_of
from spendfuse._kafka.log import KafkaLog
from spendfuse._usage.transport import Done, Record, Undelivered
from spendfuse._usage.wire import USAGE_TOPIC

DEFAULTS: dict[str, Any] = {
    "enable.idempotence": True,
    "acks": "all",
    "delivery.timeout.ms": 30_000,  # then the emitter sends it again, under the same event id
    "linger.ms": 5,
    "allow.auto.create.topics": False,  # the broker would make one with settings that are wrong
    "topic.metadata.propagation.max.ms": 1_000,  # then it is said that the topic is missing, and looked for again
    "partitioner": "murmur2_random",  # as Java's and aiokafka's: every producer must find a tenant's partition alike
    "reconnect.backoff.max.ms": 2_000,
}

_NEVER_ACCEPTED = frozenset((KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE, KafkaError.INVALID_RECORD))
"""Sending the same record again would end the same way."""
_AT_ONCE = frozenset((KafkaError.INVALID_TIMESTAMP, KafkaError._INVALID_DIFFERENT_RECORD))
"""Nothing is to be waited for: it goes with another timestamp, or without its neighbour."""


class KafkaTransport:
    """Produces to `<prefix>usage.v1`, idempotently, keyed by tenant. A missing topic is waited for, and not made.

    The record's timestamp is the event's own time, or the broker's where this machine's clock is ahead of it.
    """

    def __init__(
        self,
        bootstrap: str | None = None,
        *,
        prefix: str | None = None,
        config: Mapping[str, Any] | None = None,
        make_producer: Callable[[dict[str, Any]], Producer] = Producer,
    ) -> None:
        """`config` holds librdkafka settings (security, mostly) and wins over ours.

        What is left out comes from the environment, as the service reads it: SPENDFUSE_KAFKA_BOOTSTRAP,
        SPENDFUSE_PREFIX, SPENDFUSE_KAFKA_SECURITY_PROTOCOL and so on. Raises ValueError when nobody says where Kafka
        is.
        """
        self._topic = topic_prefix(prefix) + USAGE_TOPIC
        self._config = {"error_cb": _log_error, "logger": KafkaLog(), **DEFAULTS, **kafka_config(bootstrap, config)}
        self._make_producer = make_producer
        self._producer: Producer | None = make_producer(self._config)
        """None in a forked child that has sent nothing yet."""
        self._broker_time = BrokerTime()
        self._replaced = RareWarning("%d times the Kafka producer was replaced after a fatal error, the latest: %s")
        self._in_flight = 0
        self._in_doubt: set[Record] = set()
        """What was refused among others, so that the broker's reason for it alone is not known."""
        tell_of_forks(self)

    def forked(self) -> None:
        """Leave the producer to the parent, with what is under way in it."""
        never_free(self._producer)
        self._producer = None
        self._in_flight = 0
        self._in_doubt.clear()

    def send(self, record: Record, done: Done) -> None:
        """Hand the record to the producer. Raises BufferError when its queue is full, or while it goes one by one."""
        one_by_one = self._broker_time.is_searching or bool(self._in_doubt)
        if one_by_one and self._in_flight:
            raise BufferError("one by one, until it is clear what the broker refuses")
        stamp = self._broker_time.stamp(record.ts_ms)

        def delivered(error: KafkaError | None, _: Message) -> None:
            self._in_flight -= 1
            done(record, self._outcome(record, stamp, error, alone=one_by_one))

        if self._producer is None:
            self._producer = self._make_producer(self._config)
        try:
            self._producer.produce(
                self._topic, value=record.value, key=record.key, timestamp=stamp.ms, on_delivery=delivered
            )
        except KafkaException as exception:
            error = exception.args[0]
            done(record, undelivered(error, self._topic))
            if error.fatal() or error.code() == KafkaError._FATAL:  # the latter is all that the client says of it here
                self._replace(error)
        else:
            self._in_flight += 1

    def poll(self, timeout_s: float) -> None:
        """Serve delivery reports."""
        if self._producer is not None:
            self._producer.poll(timeout_s)

    def close(self) -> None:
        """Drop what is still queued."""
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(0.1)

    def _outcome(self, record: Record, stamp: Stamp, error: KafkaError | None, *, alone: bool) -> Undelivered | None:
        """Learn from the broker's answer; return what it means for the record."""
        if error is None:
            self._in_doubt.discard(record)
            self._broker_time.accepted(stamp.behind_ms)
            return None
        if error.code() == KafkaError.INVALID_TIMESTAMP:
            self._in_doubt.clear()  # the others were refused for the same
            if not self._broker_time.refused(stamp.behind_ms):
                return Undelivered(error.str(), retriable=False)
        elif error.code() == KafkaError.INVALID_RECORD and not alone:
            self._in_doubt.add(record)
            return Undelivered(error.str(), retriable=True, at_once=True)
        else:
            self._in_doubt.discard(record)
        return undelivered(error, self._topic)

    def _replace(self, error: KafkaError) -> None:
        """A producer after a fatal error sends nothing more: give back what it holds and make another."""
        self._replaced.happened(error.str())
        with suppress(KafkaException, SystemError):  # what it raises while it ends is the fatal error again
            self.close()
        self._in_flight = 0
        self._producer = self._make_producer(self._config)


def undelivered(error: KafkaError, topic: str) -> Undelivered:
    """Return the failure, with whether the record deserves another attempt."""
    code = error.code()
    return Undelivered(reason_of(error, topic), retriable=code not in _NEVER_ACCEPTED, at_once=code in _AT_ONCE)


def _log_error(error: KafkaError) -> None:
    LOG.debug("Kafka: %s", error.str())
