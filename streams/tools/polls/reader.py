"""One system read for one tenant, a turn at a time: what is new is written, then how far it was read."""

import logging
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from confluent_kafka import KafkaError

from schemas.duration import HOUR_MS
from schemas.errors import BrokerError, Undecodable
from streams.clock import sleepless_ms, wall_ms
from streams.gateway.sources.batch import Item
from streams.gateway.sources.usage_item import Usage, usage_item
from streams.kafka.client import flush, make_producer, refuse_without_rights
from streams.process.logs import fields
from streams.settings import Settings
from streams.tools.polls.cursor import SWEEP_MS, Cursor, read_cursor, write_cursor
from streams.tools.polls.source import Fetch, Found

log = logging.getLogger("spendfuse.poll")

WRITE_S: Final = 60.0
SWEEP_EVERY_MS: Final = HOUR_MS


@dataclass(slots=True)
class Turn:
    """What one turn has found: event ids -> the times that their calls stand at."""

    written: dict[str, int] = field(default_factory=dict)
    long: dict[str, int] = field(default_factory=dict)
    """Those of them that lasted long."""
    refused: int = 0


class Reader:
    """Reads a system from its cursor on.

    Each turn asks for what stands at the last `overlap_ms` before the newest call that was written: calls stand at
    their beginning, and turn up when they end. Once an hour a sweep asks for a day, and takes what lasted too long to
    have been seen: half the overlap and more. Such calls are few, and all of them are remembered for a day.

    Raises `BrokerError` or `StateError` where its cursor cannot be read.
    """

    def __init__(
        self, settings: Settings, fetch: Fetch, source: str, tenant_id: str, *, since_ms: int, overlap_ms: int
    ) -> None:
        self._settings = settings
        self._fetch = fetch
        self._source = source
        self._tenant_id = tenant_id
        self._overlap_ms = overlap_ms
        self._key = f"{source}/{tenant_id}"
        begun = Cursor(until_ms=since_ms + overlap_ms, ids={}, began_ms=since_ms)
        self.cursor = read_cursor(settings, self._key) or begun
        self._swept_ms: int | None = None

    def turn(self) -> Turn:
        """Ask once, and write what is new; a sweep where one is due.

        Raises:
            ProviderError: the system does not answer; nothing counts as read.
            BrokerError: Kafka does not take what was found; nothing of it counts as read.
        """
        now_ms = sleepless_ms()
        is_sweep = self._swept_ms is None or now_ms >= self._swept_ms + SWEEP_EVERY_MS
        found = self._write_new(self._sweep_ms if is_sweep else self._since_ms)
        if found.written:
            self.cursor = self.cursor.after(found.written, found.long, self._overlap_ms)
            write_cursor(self._settings, self._key, self.cursor)
        if is_sweep:
            self._swept_ms = now_ms
        about = {"written": len(found.written), "until_ms": self.cursor.until_ms, "sweep": is_sweep}
        log.info("read", extra=fields(source=self._source, **about))
        return found

    @property
    def _since_ms(self) -> int:
        return self.cursor.until_ms - self._overlap_ms

    @property
    def _sweep_ms(self) -> int:
        return max(self.cursor.begins_ms(self._overlap_ms), self._since_ms - SWEEP_MS)

    def _write_new(self, since_ms: int) -> Turn:
        """Write what was not written before. All of it is on the brokers, or it raises."""
        turn = Turn()
        refused: Counter[str] = Counter()
        with _Writer(self._settings) as writer:
            for found in self._fetch(since_ms):
                try:
                    usage = _usage(found)
                    item = usage_item(usage, self._tenant_id)
                except Undecodable as fault:
                    refused[fault.detail] += found.at_ms >= self._since_ms or not found.at_ms
                    continue
                if self._is_new(found, usage, turn):
                    writer.write(item)
                    self._note(found, usage, turn)
        turn.refused = sum(refused.values())
        for why, count in refused.items():
            if count:
                log.warning("calls cannot be read", extra=fields(count=count, why=why))
        return turn

    def _is_new(self, found: Found, usage: Usage, turn: Turn) -> bool:
        event_id = usage["event_id"]
        if event_id in turn.written or self.cursor.knows(event_id):
            return False
        return found.at_ms >= self._since_ms or self._is_long(usage)

    def _note(self, found: Found, usage: Usage, turn: Turn) -> None:
        at_ms = min(found.at_ms, wall_ms())
        turn.written[usage["event_id"]] = at_ms
        if self._is_long(usage):
            turn.long[usage["event_id"]] = at_ms

    def _is_long(self, usage: Usage) -> bool:
        """Whether it lasted so long that the turns may not see it when it ends."""
        return bool(usage.get("latency_ms", 0) >= self._overlap_ms // 2)


def _usage(found: Found) -> Usage:
    if isinstance(found.usage, Undecodable):
        raise found.usage
    return found.usage


class _Writer:
    """Writes to usage.v1. Left without an error, everything is on the brokers; else it raises `BrokerError`."""

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.topic("usage.v1")
        self._producer = make_producer(settings, {"log_level": 0})
        self._failures: list[KafkaError] = []

    def write(self, item: Item) -> None:
        """Hand a message over."""
        while True:
            try:
                self._producer.produce(self._topic, item.value, item.tenant_id.encode(), on_delivery=self._answered)
                return
            except BufferError:
                self._producer.poll(0.1)

    def _answered(self, error: KafkaError | None, _: Any) -> None:
        if error is not None:
            self._failures.append(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = flush(self._producer, WRITE_S)
        if self._failures:
            refuse_without_rights(self._failures[0])
        if left or self._failures:
            raise BrokerError(f"{left + len(self._failures)} calls were not taken by the broker; start it again")
