"""How far behind is this process? Asked of the broker: a fetcher that died says that it has read everything."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # offered, but not exported
from faust.types import TP

from streams.kafka.client import Admin
from streams.settings import Settings

QUERY_TIMEOUT_S = 5.0


class Lag:
    """Compares where a topic's partitions end, as far as they are committed, with how far a consumer has come."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._admin = Admin(settings)

    async def measure(self, consumer: Any, partitions: Iterable[int]) -> dict[int, int]:
        """Committed records of each partition that Faust's `consumer` has not fetched.

        Raises:
            Exception: the broker or the consumer does not answer; each has ways of its own to say so.
        """
        owned = [TopicPartition(self._topic, number) for number in partitions]
        if not owned:
            return {}
        try:
            ends = await self._ends(owned)
        except Exception:
            # A client that saw its broker go may ask with what it knew before for minutes (FENCED_LEADER_EPOCH).
            self._admin = Admin(self._settings)
            raise
        lag = {}
        for number, end in ends.items():
            position = await asyncio.wait_for(consumer.position(TP(self._topic, number)), QUERY_TIMEOUT_S)
            lag[number] = max(0, end - (position or 0))
        return lag

    async def _ends(self, places: list[TopicPartition]) -> dict[int, int]:
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        futures = self._admin.list_offsets(
            dict.fromkeys(places, latest),
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=QUERY_TIMEOUT_S,
        )
        return {
            each.partition: (await asyncio.wait_for(asyncio.wrap_future(future), 2 * QUERY_TIMEOUT_S)).offset
            for each, future in futures.items()
        }


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
