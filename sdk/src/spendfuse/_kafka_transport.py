"""Records into Kafka, by way of confluent-kafka's producer."""

from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from spendfuse._environment import kafka_config, topic_prefix
from spendfuse._logging import LOG
from spendfuse._transport import Done, Record, Undelivered
from spendfuse._wire import USAGE_TOPIC

DEFAULTS: dict[str, Any] = {
    "enable.idempotence": True,
    "acks": "all",
    "delivery.timeout.ms": 30_000,  # then the emitter sends it again, under the same event id
    "linger.ms": 5,
    "partitioner": "murmur2_random",  # as Java's and aiokafka's: every producer must find a tenant's partition alike
    "reconnect.backoff.max.ms": 2_000,
}

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
        self._config = {"error_cb": _log_error, **DEFAULTS, **kafka_config(bootstrap, config)}
        self._make_producer = make_producer
        self._producer = make_producer(self._config)

    def send(self, record: Record, done: Done) -> None:
        """Hand the record to the producer. Raises BufferError when its queue is full."""

        def delivered(error: KafkaError | None, _: Message) -> None:
            done(record, None if error is None else undelivered(error))

        try:
            self._producer.produce(
                self._topic, value=record.value, key=record.key, timestamp=record.ts_ms, on_delivery=delivered
            )
        except KafkaException as exception:
            error = exception.args[0]
            done(record, undelivered(error))
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


def undelivered(error: KafkaError) -> Undelivered:
    """Return the failure, with whether the record deserves another attempt."""
    return Undelivered(error.str(), retriable=error.code() not in _NEVER_ACCEPTED)


def _log_error(error: KafkaError) -> None:
    LOG.debug("Kafka: %s", error.str())
