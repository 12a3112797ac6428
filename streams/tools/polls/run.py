"""`poll`: what another system knows of calls, asked for again and again, and each call written once."""

import logging
from collections import Counter
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaError

from schemas.errors import BrokerError, SettingsError, Undecodable
from streams.clock import pause, wall_ms
from streams.gateway.sources.batch import Item
from streams.gateway.sources.usage_item import Usage, usage_item
from streams.kafka.admin import existing_topics
from streams.kafka.client import flush, make_producer, refuse_without_rights
from streams.process.logs import fields
from streams.settings import Settings, read_others
from streams.tools.polls.cursor import TOPIC, Cursor, read_cursor, write_cursor
from streams.tools.polls.registry import POLLS
from streams.tools.polls.source import Fetch, Found, UnansweredError

log = logging.getLogger("spendfuse.poll")

WRITE_S = 60.0


def run_poll(settings: Settings, name: str, tenant_id: str, *, since_ms: int, every_s: float, once: bool) -> int:
    """Poll until told to end, or once. `since_ms` is where to begin a system that was never read.

    Raises:
        SettingsError: the system is not known, its variables are not set, or it refuses them.
        BrokerError: Kafka does not take what was found; nothing of it counts as read.
    """
    source = POLLS.get(name)
    if source is None:
        raise SettingsError(f"--from {name}: not known; one of {', '.join(sorted(POLLS))}")
    existing_topics(settings, ["usage.v1", TOPIC])
    fetch = source.make(read_others(source.variables, name))
    key = f"{name}/{tenant_id}"
    cursor = read_cursor(settings, key) or Cursor(until_ms=since_ms + source.overlap_ms, ids={})
    while True:
        try:
            written = _write_new(settings, fetch, cursor, tenant_id, cursor.until_ms - source.overlap_ms)
        except UnansweredError as error:
            log.warning("it is asked again later", extra=fields(source=name, error=str(error)))
            if once:
                raise BrokerError(str(error)) from None
        else:
            if written:
                cursor = cursor.after(written, source.overlap_ms)
                write_cursor(settings, key, cursor)
            log.info("read", extra=fields(source=name, written=len(written), until_ms=cursor.until_ms))
        if once:
            return 0
        pause(every_s)


def _write_new(settings: Settings, fetch: Fetch, cursor: Cursor, tenant_id: str, since_ms: int) -> dict[str, int]:
    """Write what was not written before; event id -> the time that its call stands at.

    All of it is on the brokers, or it raises.
    """
    written: dict[str, int] = {}
    refused: Counter[str] = Counter()
    with _Writer(settings) as writer:
        for found in fetch(since_ms):
            try:
                item = usage_item(_usage(found), tenant_id)
            except Undecodable as fault:
                refused[fault.detail] += 1
                continue
            event_id = _usage(found)["event_id"]
            if event_id not in written and not cursor.knows(event_id):
                writer.write(item)
                written[event_id] = min(found.at_ms, wall_ms())
    for why, count in refused.items():
        log.warning("calls cannot be read", extra=fields(count=count, why=why))
    return written


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
