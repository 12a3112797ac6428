"""How far behind is this process, and do its topics still have what it read and wrote? Asked of the broker: a fetcher
that died says that it has read everything.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # offered, but not exported
from faust.types import TP

from schemas.alert import WATCHDOG
from schemas.codec import decode_alert
from schemas.errors import BrokerError, Undecodable
from streams.kafka.client import Admin
from streams.kafka.positions import committed_ends, first_offsets, group_offsets, told_offset
from streams.kafka.whole_topic import committed_records
from streams.notifier.committed import GROUP
from streams.settings import Settings

QUERY_TIMEOUT_S = 5.0


class TopicTruncated(BrokerError):
    """A topic ends before what was read of it."""


class LogMissing(BrokerError):
    """The topic that all is to be written to before it is sent is not there."""


class Measured(NamedTuple):
    """What one look finds."""

    behind: dict[int, int]
    """Partition -> committed records that were not fetched."""
    cut: list[int]
    """Partitions whose log ends before where it ended at the look before: it was cut, or made anew."""


class Lag:
    """Compares where a topic's partitions end, as far as they are committed, with how far a consumer has come. Of the
    topics `beside` it only sees whether they still have what was read, and of `log` what was written.
    """

    def __init__(self, settings: Settings, topic: str, *beside: str, log: str) -> None:
        self._settings = settings
        self._topic = topic
        self._topics = (topic, *beside)
        self._log = log
        self._log_ends: dict[int, int] = {}
        """Where the log ended at the look before, of partitions that were owned then."""
        self._admin = Admin(settings)

    async def measure(self, consumer: Any, partitions: Iterable[int]) -> Measured:
        """Look at these partitions, of which Faust's `consumer` reads.

        Raises:
            TopicTruncated: a partition ends before what was read of it.
            LogMissing: the log's topic is not there. What it held is found missing once it is there again.
            Exception: the broker or the consumer does not answer; each has ways of its own to say so.
        """
        numbers = list(partitions)
        if not numbers:
            self._log_ends.clear()
            return Measured({}, [])
        owned = [TopicPartition(topic, number) for number in numbers for topic in (*self._topics, self._log)]
        read = [TP(topic, number) for topic in self._topics for number in numbers]
        read_to = {tp: consumer.read_to(tp) for tp in read}
        try:
            ends = await self._ends(owned)
        except Exception:
            # A client that saw its broker go may ask with what it knew before for minutes (FENCED_LEADER_EPOCH).
            self._admin = Admin(self._settings)
            raise
        log_ends = {number: ends.pop(TP(self._log, number)) for number in numbers}
        lag = {}
        for tp, end in ends.items():
            if read_to[tp] > end:
                raise TopicTruncated(
                    f"{tp.topic}, partition {tp.partition}, ends at {end} and was read farther: it has lost records, "
                    "or was made anew. A new start reads it from its beginning"
                )
            if tp.topic == self._topic:
                position = await asyncio.wait_for(consumer.position(tp), QUERY_TIMEOUT_S)
                lag[tp.partition] = max(0, end - (position or 0))
        before, self._log_ends = self._log_ends, log_ends
        return Measured(lag, [number for number, end in log_ends.items() if end < before.get(number, 0)])

    async def _ends(self, places: list[TopicPartition]) -> dict[TP, int]:
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        futures = self._admin.list_offsets(
            dict.fromkeys(places, latest),
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=QUERY_TIMEOUT_S,
        )
        ends = {}
        for each, future in futures.items():
            try:
                found = await asyncio.wait_for(asyncio.wrap_future(future), 2 * QUERY_TIMEOUT_S)
            except KafkaException as error:
                if each.topic == self._log and error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise LogMissing(f"{each.topic} is missing: python -m streams topics apply") from None
                raise
            ends[TP(each.topic, each.partition)] = told_offset(found, (each.topic, each.partition))
        return ends


def alerts_read(settings: Settings, number: int, since_ms: int) -> int:
    """How many alerts that somebody was to hear of the group has read of a partition, of those since then.

    Raises:
        BrokerError: that is not known.
    """
    admin, place = Admin(settings), (settings.topic("alerts.v1"), number)
    read_to = group_offsets(admin, settings.group(GROUP)).get(place, 0)
    starts, ends = first_offsets(admin, [place]), committed_ends(admin, [place])
    records = committed_records(
        settings, "alerts.v1", starts={number: starts[place]}, ends={number: min(read_to, ends[place])}
    )
    return sum(_was_to_be_told(record.value(), since_ms) for record in records)


def _was_to_be_told(value: bytes | None, since_ms: int) -> bool:
    try:
        alert = decode_alert(value)
    except Undecodable:
        return False
    return alert.ts_ms >= since_ms and alert.mode != "shadow" and alert.detector != WATCHDOG


class Progress:
    """Compares what there is to do, as the broker counts it, with what was done since the last look."""

    def __init__(self) -> None:
        self._before: tuple[tuple[tuple[int, int], ...], int] | None = None

    def is_made(self, lag: Mapping[int, int], waiting: int, handled: int) -> bool:
        """Whether there is nothing to do, or something was done since the last call.

        `lag` is the number of committed records of each partition that were not fetched, `waiting` what was fetched
        and is not dealt with, `handled` what was dealt with since the start.
        """
        now = tuple(sorted(lag.items())), handled
        moved, self._before = now != self._before, now
        return moved or (waiting == 0 and not any(lag.values()))
