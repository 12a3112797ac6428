"""What time it is for the brokers: one is asked with a record that it stamps itself, where a topic is kept so."""

import logging
from concurrent.futures import Future
from functools import partial
from typing import Any, Final

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException

from schemas.duration import MINUTE_MS
from streams.clock import BrokerClock, monotonic_ms, seconds
from streams.kafka.admin import in_background
from streams.kafka.client import make_producer
from streams.process.logs import fields
from streams.settings import Settings

log = logging.getLogger("spendfuse.clocks")

QUESTION: Final = b'["clock"]'
"""Key of the record. It has no value, so that compaction takes it away, and no reader of rows sees it."""
ANSWER_S: Final = 5.0
BELIEVED_MS: Final = MINUTE_MS
"""A broker's clock may be set. Who hears of that later than others takes their signs of life for old ones."""
EARLIEST_MS: Final = 1_577_836_800_000
"""2020: the embedded broker makes up what it says, and an earlier time is nobody's."""
WORTH_TELLING_MS: Final = 5_000
"""A host's clock that differs by less, or by so much more than before, changes nothing that people see."""


class BrokerTime:
    """Has a clock set by a broker.

    Args:
        settings: which cluster.
        clock: the clock to be set.
        topic: one with `message.timestamp.type=LogAppendTime` that this process may write, compacted.
    """

    def __init__(self, settings: Settings, clock: BrokerClock, topic: str) -> None:
        self._settings = settings
        self._clock = clock
        self._topic = settings.topic(topic)
        self._next_ms = 0
        self._asking: Future[None] | None = None
        self._said_ahead_ms: int | None = None
        self._has_complained = False

    def ask(self, partition: int) -> None:
        """Ask whoever leads that partition. The clock stays as it is where nobody answers, or no time is told."""
        self._next_ms = monotonic_ms() + BELIEVED_MS
        try:
            told_ms = self._asked(partition)
        except KafkaException as error:
            log.warning("the brokers' time is not known", extra=fields(error=error.args[0].str()))
            return
        if told_ms is None:
            self._complain()
            return
        self._clock.heard(told_ms)
        self._say(self._clock.host_ahead_ms)

    def _say(self, ahead_ms: int) -> None:
        """Say how far this host's clock is ahead: the first time, and when one of the two was set."""
        before_ms, self._said_ahead_ms = self._said_ahead_ms, ahead_ms
        if before_ms is None:
            say = log.warning if abs(ahead_ms) > WORTH_TELLING_MS else log.info
            say("the brokers have told their time", extra=fields(host_ahead_ms=ahead_ms))
        elif abs(ahead_ms - before_ms) > WORTH_TELLING_MS:
            about = fields(host_ahead_ms=ahead_ms, before_ms=before_ms)
            log.warning("a clock was set: the brokers' or this host's", extra=about)

    def _complain(self) -> None:
        """Say once what to do about it: it is asked again and again."""
        if not self._has_complained:
            advice = f"{self._topic} has no message.timestamp.type=LogAppendTime: python -m streams topics apply"
            log.warning("the brokers do not tell their time", extra=fields(advice=advice))
        self._has_complained = True

    def ask_when_due(self, partition: int) -> bool:
        """Ask again every minute, beside whatever else is done. Returns whether that has ended since the last call."""
        if self._asking is None:
            if monotonic_ms() >= self._next_ms:
                self._asking = in_background(partial(self.ask, partition), "broker-time")
            return False
        if not self._asking.done():
            return False
        self._asking = None
        return True

    def _asked(self, partition: int) -> int | None:
        """The time on the record; None where the broker puts none there. Raises `KafkaException`."""
        answers: list[tuple[KafkaError | None, tuple[int, int]]] = []

        def answered(error: KafkaError | None, message: Any) -> None:
            answers.append((error, message.timestamp()))

        # As the only leader knows its time, one copy is enough: nothing is lost with the record.
        producer = make_producer(
            self._settings,
            {
                "enable.idempotence": False,
                "acks": 1,
                "linger.ms": 0,
                "message.timeout.ms": int(ANSWER_S * 1000),
                "log_level": 0,
            },
        )
        producer.produce(self._topic, None, QUESTION, partition, on_delivery=answered)
        deadline = seconds() + ANSWER_S + 1
        while not answers and seconds() < deadline:
            producer.poll(0.1)
        if not answers:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no broker answers"))
        [(error, (kind, stamp_ms))] = answers
        if error is not None:
            raise KafkaException(error)
        return stamp_ms if kind == TIMESTAMP_LOG_APPEND_TIME and stamp_ms >= EARLIEST_MS else None
