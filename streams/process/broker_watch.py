"""Is the broker there? Asked in a thread of its own: whoever waits for an answer cannot say that none comes."""

import logging
import threading
from types import TracebackType
from typing import Final, Self

from confluent_kafka import KafkaException

from schemas.duration import HOUR_MS
from streams.clock import monotonic_ms
from streams.kafka.client import Admin
from streams.process.logs import fields
from streams.settings import Settings

log = logging.getLogger("spendfuse.broker")

ASK_EVERY_S: Final = 2.0
ANSWER_S: Final = 5.0


class BrokerWatch:
    """Asks every other second while it is entered, and logs when the answers stop, and when they come again."""

    def __init__(self, settings: Settings) -> None:
        self._admin = Admin(settings)
        self._topic = settings.topic("alerts.v1")  # any would do: one that every process of the service may see
        self._answered_ms = monotonic_ms()
        self._back_ms = -HOUR_MS
        self._is_away = False
        self.outages = 0
        """How often it went away."""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="broker-watch", daemon=True)

    @property
    def away_s(self) -> float:
        """For how many seconds no broker has answered; 0 while one does."""
        return (monotonic_ms() - self._answered_ms) / 1000 if self._is_away else 0.0

    @property
    def last_away_ms(self) -> int:
        """When it was last away, on the monotonic clock; long ago if it never was."""
        return monotonic_ms() if self._is_away else self._back_ms

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()

    def _watch(self) -> None:
        while not self._end.wait(ASK_EVERY_S):
            try:
                self._admin.list_topics(self._topic, timeout=ANSWER_S)
            except KafkaException as error:
                self._note_silence(error.args[0].str())
            else:
                self._note_answer()

    def _note_silence(self, said: str) -> None:
        if not self._is_away:
            log.warning("the broker does not answer; it is waited for", extra=fields(error=said))
            self.outages += 1
        self._is_away = True

    def _note_answer(self) -> None:
        if self._is_away:
            log.warning("the broker answers again", extra=fields(away_s=round(self.away_s, 1)))
            self._back_ms = monotonic_ms()
        self._answered_ms = monotonic_ms()
        self._is_away = False
