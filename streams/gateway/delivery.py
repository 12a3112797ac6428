"""Records on their way to the brokers, and to the disk where no broker takes them. What is answered for is not lost."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

from confluent_kafka import KafkaError, KafkaException

from streams.clock import pause
from streams.gateway.metrics import GatewayMetrics
from streams.gateway.origin import HEADER
from streams.gateway.spool import Record, Spool
from streams.gateway.stamps import Stamps, stamp_ms
from streams.kafka.client import flush, make_producer, missing_right
from streams.process.logs import fields
from streams.settings import Settings

log = logging.getLogger("spendfuse.delivery")

ACK_S: Final = 3.0
"""How long the brokers may take to acknowledge a record before it goes to the disk."""
LOOK_EVERY_S: Final = 0.5
END_S: Final = 5.0


class _Waiting:
    """Records of one request, and how many of them the brokers have not answered for."""

    def __init__(self, records: Sequence[Record], loop: asyncio.AbstractEventLoop) -> None:
        self.records = records
        self.left = len(records)
        self.failed: list[Record] = []
        self.fault: KafkaError | None = None
        self._changing = threading.Lock()  # the producer's thread answers, and ours where it takes no more
        self.loop = loop
        self.done: asyncio.Future[None] = loop.create_future()

    def answered(self, record: Record, error: KafkaError | None) -> None:
        """The brokers have the record, or will not."""
        with self._changing:
            if error is not None:
                self.failed.append(record)
                self.fault = error
            self.left -= 1
            is_last = not self.left
        if is_last:
            self.loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


class Delivery:
    """Writes records while it is entered.

    As long as something is in the spool, what comes later goes behind it: records of a run stay in order.
    """

    def __init__(self, settings: Settings, spool: Spool, metrics: GatewayMetrics) -> None:
        self._settings = settings
        self._spool = spool
        self._metrics = metrics
        self._producer = make_producer(
            settings,
            {
                "linger.ms": 5,
                "delivery.timeout.ms": int(ACK_S * 1000),
                "queue.buffering.max.messages": 200_000,
                "log_level": 0,  # failures come back record by record
            },
        )
        self._stamps = Stamps()
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for name, run in (("delivery-polls", self._poll), ("delivery-spool", self._drain))
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        flush(self._producer, END_S)
        self._end.set()
        for thread in self._threads:
            thread.join(END_S)

    async def deliver(self, records: Sequence[Record]) -> None:
        """Return once the brokers have the records, or the disk.

        Raises:
            SpoolFullError: neither takes them, or not all of them: the caller has to send again.
            OSError: the disk fails.
        """
        if not records:
            return
        if not self._spool.is_empty:
            await self._keep(records)
            return
        waiting = _Waiting(records, asyncio.get_running_loop())
        for record in records:
            self._produce(record, waiting)
        await waiting.done
        if waiting.failed:
            self._metrics.undelivered.inc(len(waiting.failed))
            log.warning(
                "the brokers did not take records; they go to the disk", extra=fields(error=_words(waiting.fault))
            )
            await self._keep(waiting.failed)

    def _produce(self, record: Record, waiting: "_Waiting") -> None:
        steps = self._stamps.steps()

        def answered(error: KafkaError | None, _: Any) -> None:
            if _is_too_far_ahead(error) and self._stamps.refused(steps):
                self._produce(record, waiting)
            else:
                waiting.answered(record, error)

        try:
            self._send(record, answered, steps)
        except BufferError:  # so many are under way that the brokers do not keep up
            waiting.answered(record, KafkaError(KafkaError._QUEUE_FULL))
        except KafkaException as error:
            waiting.answered(record, error.args[0])

    def _send(self, record: Record, answered: Callable[[KafkaError | None, Any], None], steps: int) -> None:
        """Hand a record to the client library, with a time so far back. Raises `BufferError` or `KafkaException`."""
        headers: list[tuple[str, str | bytes | None]] = [(HEADER, record.origin.encode())] if record.origin else []
        self._producer.produce(
            self._settings.topic(record.topic), record.value, record.key,
            on_delivery=answered, headers=headers, timestamp=stamp_ms(steps),
        )  # fmt: skip

    async def _keep(self, records: Sequence[Record]) -> None:
        await asyncio.to_thread(self._spool.add, records)
        self._metrics.spooled.inc(len(records))

    def _poll(self) -> None:
        while not self._end.is_set():
            self._producer.poll(0.1)

    def _drain(self) -> None:
        """Hand on what is in the spool, oldest first, for as long as it takes."""
        while not self._end.is_set():
            if not self._drained_one():
                self._end.wait(LOOK_EVERY_S)

    def _drained_one(self) -> bool:
        kept = self._spool.oldest()
        if kept is None:
            return False
        segment, records = kept
        faults: list[KafkaError] = []
        left = [len(records)]
        steps = self._stamps.steps()

        def answered(error: KafkaError | None, _: Any) -> None:
            left[0] -= 1
            if error is not None:
                faults.append(error)

        for record in records:
            while not self._end.is_set():
                try:
                    self._send(record, answered, steps)
                    break
                except BufferError:
                    pause(0.05)
        while left[0] and not self._end.is_set():
            pause(0.01)
        if faults and _is_too_far_ahead(faults[0]) and self._stamps.refused(steps):
            return True  # once more, at once, and further back
        if left[0] or faults:
            return False  # tried again: those that are there already are known by their event ids
        self._spool.remove(segment)
        log.info("records from the disk are with the brokers", extra=fields(records=len(records)))
        return True


def _is_too_far_ahead(error: KafkaError | None) -> bool:
    """Whether the brokers refused a record for its time. Of several that went together they say only that records are
    invalid, and of ours, which have keys, nothing else can be.
    """
    return error is not None and error.code() in (KafkaError.INVALID_TIMESTAMP, KafkaError.INVALID_RECORD)


def _words(error: KafkaError | None) -> str:
    return "" if error is None else f"{error.str()} {missing_right(error.code())}".strip()
