"""Writing operators' orders to operator.v1: signed, into the partition of their tenant, acknowledged by the broker."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import KafkaError, KafkaException, Message

from schemas.codec import encode
from schemas.errors import BrokerError, SettingsError
from schemas.operator import OperatorMessage
from schemas.signing import OperatorKey
from streams.clock import BrokerClock
from streams.kafka.client import cause_of, flush, make_producer, refuse_without_rights
from streams.settings import Settings

WRITE_TIMEOUT_S = 10.0
PATIENCE_S = 2.0
"""How much longer than its own time-out the client may take to say so."""
THREADS = 4
"""Of our own, so that orders which wait for a broker keep nobody else from working."""


class OrderWriter:
    """Signs orders and writes them, one at a time or several at once, with the brokers' time where it is known.

    Raises:
        SettingsError: there is no key to sign with.
    """

    def __init__(self, settings: Settings, brokers: BrokerClock | None = None) -> None:
        self._brokers = brokers or BrokerClock()
        self._key = operator_key(settings)
        self._topic = settings.topic("operator.v1")
        self._bootstrap = settings.kafka_bootstrap
        self._threads = ThreadPoolExecutor(THREADS, "orders")
        self._producer = make_producer(
            settings,
            {
                "delivery.timeout.ms": int(WRITE_TIMEOUT_S * 1000),
                "log_level": 0,  # failures come back as errors with a sentence
            },
        )

    def write(self, order: OperatorMessage) -> None:
        """Return when the broker has the order.

        Raises:
            BrokerError: it has not said so in time. Whether it has the order is unknown then.
        """
        value = encode(order)
        outcome: list[KafkaError | None] = []

        def delivered(error: KafkaError | None, _: Message) -> None:
            outcome.append(error)

        try:
            self._producer.produce(
                self._topic,
                value,
                order.tenant_id.encode(),
                timestamp=self._brokers.now_ms(),
                headers=list(self._key.order_headers(order.tenant_id, value)),
                on_delivery=delivered,
            )
            flush(self._producer, WRITE_TIMEOUT_S + PATIENCE_S)
        except (KafkaException, BufferError) as refused:
            if isinstance(refused, BufferError):
                raise BrokerError(f"the order was not written: {refused}") from None
            why = cause_of(self._producer, refused.args[0])
            refuse_without_rights(why)
            raise BrokerError(f"the order was not written: {why.str()}") from None
        error = outcome[0] if outcome else None
        if error is not None or not outcome:
            raise BrokerError(self._failure(order, error))

    async def publish(self, order: OperatorMessage) -> None:
        """`write`, without holding up the event loop."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self.write, order)

    def _failure(self, order: OperatorMessage, error: KafkaError | None) -> str:
        if error is not None and error.code() == KafkaError.INVALID_TIMESTAMP:
            return (
                "the order was not written: the broker refuses it for its time, so the clock of this host differs from "
                "the broker's. Set it (NTP), and give the order again"
            )
        said = error.str() if error is not None else "no answer in time"
        return (
            f"{self._bootstrap} has not acknowledged the order ({said}). It may have been written all the same: look "
            f"with `python -m streams orders --tenant {order.tenant_id}` before you give it again"
        )


def operator_key(settings: Settings) -> OperatorKey:
    """What orders are signed with. Raises `SettingsError` if there is nothing."""
    if settings.operator_root_key is None:
        raise SettingsError(
            "SPENDFUSE_OPERATOR_KEY is not set: orders are signed with it. Set it to the one whose public key the "
            "workers have; `python -m streams keys generate` makes both"
        )
    return OperatorKey(settings.operator_root_key)
