"""How far behind is this process? Asked of the broker: a fetcher that died says that it has read everything."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # offered, but not exported
from faust.types import TP

from schemas.errors import BrokerError
from streams.kafka.client import Admin
from streams.kafka.positions import told_offset
from streams.settings import Settings

QUERY_TIMEOUT_S = 5.0


class TopicTruncated(BrokerError):
    """A topic ends before what was read of it."""


class Lag:
    """Compares where a topic's partitions end, as far as they are committed, with how far a consumer has come. Of the
    topics `beside` it only sees whether they still have what was read.
    """

    def __init__(self, settings: Settings, topic: str, *beside: str) -> None:
        self._settings = settings
        self._topic = topic
        self._topics = (topic, *beside)
        self._admin = Admin(settings)

    async def measure(self, consumer: Any, partitions: Iterable[int]) -> dict[int, int]:
        """Committed records of each partition that Faust's `consumer` has not fetched.

        Raises:
            TopicTruncated: a partition ends before what was read of it.
            Exception: the broker or the consumer does not answer; each has ways of its own to say so.
        """
        owned = [TopicPartition(topic, number) for number in partitions for topic in self._topics]
        if not owned:
            return {}
        read_to = {tp: consumer.read_to(tp) for tp in (TP(each.topic, each.partition) for each in owned)}
        try:
            ends = await self._ends(owned)
        except Exception:
            # A client that saw its broker go may ask with what it knew before for minutes (FENCED_LEADER_EPOCH).
            self._admin = Admin(self._settings)
            raise
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
        return lag

    async def _ends(self, places: list[TopicPartition]) -> dict[TP, int]:
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        futures = self._admin.list_offsets(
            dict.fromkeys(places, latest),
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=QUERY_TIMEOUT_S,
        )
        ends = {}
        for each, future in futures.items():
            found = await asyncio.wait_for(asyncio.wrap_future(future), 2 * QUERY_TIMEOUT_S)
            ends[TP(each.topic, each.partition)] = told_offset(found, (each.topic, each.partition))
        return ends


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
