"""From the topics into a store. What was read is remembered in the store, with the rows that it led to: there is no
moment at which one is there without the other, or, in a store without transactions, none at which writing again what
may be there already changes a sum.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from schemas.errors import BrokerError, StateError
from streams.clock import monotonic_ms, seconds
from streams.kafka.client import make_consumer, refuse_without_rights
from streams.kafka.leaders import watermarks
from streams.process.crash_points import CrashPoints
from streams.process.logs import fields
from streams.settings import Settings
from streams.sinks.metrics import SinkMetrics
from streams.sinks.prices import PolicyPrices
from streams.sinks.rows import TOPICS, Batch, Mapper
from streams.sinks.stores.base import Move, MovedError, Place, Store

log = logging.getLogger("spendfuse.sink")

BATCH_RECORDS: Final = 10_000
LINGER_S: Final = 1.0
"""How long a batch waits to be filled."""
ANSWER_S: Final = 15.0


class Sink:
    """Reads the partitions that it is given, from where the store says."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        store_id: str,
        prices: PolicyPrices,
        metrics: SinkMetrics,
        crash: CrashPoints,
    ) -> None:
        self._store = store
        self._prices = prices
        self._metrics = metrics
        self._crash = crash
        self._mapper = Mapper(settings, prices)
        self._names = {settings.topic(name): name for name in TOPICS}
        self._stored: dict[Place, int] = {}
        """How far the store is in the partitions that are ours."""
        self._reached: dict[Place, int] = {}
        """How far they were read."""
        self._given: list[TopicPartition] = []
        """The partitions that are ours."""
        self._is_torn = False
        """Whether something was read that may not be in the store: reading begins again from where that is."""
        self._batch_records = min(settings.batch_records, BATCH_RECORDS)
        config = {
            "session.timeout.ms": settings.session_timeout_ms,
            "queued.min.messages": 50_000,
            "fetch.message.max.bytes": 4 * 1024 * 1024,
            "log_level": 0,
        }
        self._consumer: Consumer = make_consumer(settings, f"spendfuse-sink-{store_id[:12]}", config)
        self.beat_ms = monotonic_ms()
        """When it last showed that it moves."""
        self._goal = 0
        """Where the topics ended when it had last come to where they had ended before."""
        self._goal_ms = monotonic_ms()
        metrics.behind_seconds.set_function(lambda: (monotonic_ms() - self._goal_ms) / 1000)

    def share(self) -> None:
        """Take part in reading: partitions are divided among all sinks that write into this store."""
        self._consumer.subscribe(list(self._names), on_assign=self._assigned, on_revoke=self._revoked)

    def take_all(self) -> dict[Place, int]:
        """Read every partition, whoever else does; returns where each ends now. Raises as `step` does."""
        return self._go_to(self._all_places())

    def step(self) -> int:
        """Read what is there, for up to a second, and write it; returns how many records that was.

        Raises:
            BrokerError: the broker does not allow reading.
            StoreError: the store did not take it. The next call goes on from where the store is.
            StateError: the store was not filled from these topics.
        """
        if self._is_torn:
            self._consumer.poll(0)  # the group goes on, also while the store is away; what comes is read again
            self._go_to(self._given)
        self._is_torn = True
        messages = self._consumer.consume(self._batch_records, LINGER_S)
        self.beat_ms = monotonic_ms()
        records = self._note(messages)
        if records:
            self._prices.refresh()
            self._write(records)
        if len(messages) < self._batch_records:
            self._store.rest()  # nothing more is there at once: others may have it meanwhile
        self._is_torn = False
        self._note_progress()
        return len(records)

    def has_reached(self, ends: dict[Place, int]) -> bool:
        """Whether everything before these ends is in the store."""
        return all(self._reached.get(place, 0) >= end for place, end in ends.items())

    @property
    def position(self) -> int:
        """How many offsets were read, of all partitions."""
        return sum(self._reached.values())

    def close(self) -> None:
        """Leave."""
        self._consumer.close()

    def _all_places(self) -> list[TopicPartition]:
        found = self._consumer.list_topics(timeout=ANSWER_S).topics
        return [TopicPartition(topic, number) for topic in self._names for number in found[topic].partitions]

    def _place(self, of: Any) -> Place:
        """Of a message, or a partition."""
        if isinstance(of, TopicPartition):
            return self._names[of.topic], of.partition
        return self._names[of.topic()], of.partition()

    def _assigned(self, _: Consumer, places: list[TopicPartition]) -> None:
        log.info("partitions assigned", extra=fields(count=len(places)))
        self._goal = 0
        self._go_to(places)

    def _revoked(self, _: Consumer, places: list[TopicPartition]) -> None:
        log.info("partitions revoked", extra=fields(count=len(places)))
        self._given, self._stored, self._reached, self._goal = [], {}, {}, 0

    def _go_to(self, places: Sequence[TopicPartition]) -> dict[Place, int]:
        """Read these partitions from where the store is; returns where each ends now."""
        self._given = list(places)
        known = self._store.offsets()
        self._stored = {self._place(place): known.get(self._place(place), 0) for place in places}
        self._reached = dict(self._stored)
        ends = {self._place(place): self._checked(place, self._stored[self._place(place)]) for place in places}
        self._consumer.assign(
            [
                TopicPartition(place.topic, place.partition, self._stored[self._place(place)] or OFFSET_BEGINNING)
                for place in places
            ]
        )
        return ends

    def _checked(self, place: TopicPartition, stored: int) -> int:
        """Where a partition ends. Raises `StateError` where the store has more than there is; it is said where the
        broker has deleted what the store lacks.
        """
        try:
            low, high = watermarks(self._consumer, place, ANSWER_S)
        except KafkaException as error:
            raise BrokerError(f"the broker does not say where {place.topic} ends: {error.args[0].str()}") from None
        if stored > high:
            raise StateError(
                f"{place.topic}/{place.partition} ends at {high}, and the store has it up to {stored}: the topic was "
                "made anew since. Write into another store, or delete what the store holds of it"
            )
        if stored and low > stored:
            self._metrics.lost_offsets.labels(self._names[place.topic]).inc(low - stored)
            log.error(
                "records were deleted before they were read: the store lacks them",
                extra=fields(topic=place.topic, partition=place.partition, first=stored, before=low),
            )
        return high

    def _note(self, messages: Iterable[Any]) -> list[Any]:
        records: list[Any] = []
        for message in messages:
            error = message.error()
            if error is None:
                records.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                place = self._place(message)
                self._reached[place] = max(self._reached.get(place, 0), message.offset())
            else:
                refuse_without_rights(error)
                log.warning("the broker does not answer as it should: %s", error.str())
        return records

    def _write(self, records: Sequence[Any]) -> None:
        batch, after = Batch(), dict[Place, int]()
        self._mapper.take_policies(batch)
        for message in records:
            place = self._place(message)
            if place not in self._stored:
                continue  # of a partition that is another's by now
            after[place] = max(self._stored[place], message.offset() + 1)
            self._metrics.records.labels(place[0]).inc()
            if (reason := self._mapper.take(batch, place[0], message)) is not None:
                self._metrics.skipped.labels(place[0], reason).inc()
        moves = {place: Move(self._stored[place], offset) for place, offset in after.items()}
        self._crash("taken")
        begun_s = seconds()
        try:
            self._store.write(batch.rows, moves, lambda: self._crash("written"))
        except MovedError as error:
            log.info("another sink has gone on from here: %s", error)
            self._go_to(self._given)
            return
        self._crash("committed")
        self._metrics.write_seconds.observe(seconds() - begun_s)
        for name, rows in batch.rows.items():
            self._metrics.rows.labels(name).inc(len(rows))
        for place, move in moves.items():
            self._stored[place] = move.after
            self._reached[place] = max(self._reached.get(place, 0), move.after)

    def _note_progress(self) -> None:
        behind, position = self._behind(), self.position
        self._metrics.behind_offsets.set(behind)
        if position >= self._goal:
            self._goal, self._goal_ms = position + behind, monotonic_ms()

    def _behind(self) -> int:
        found = 0
        for place in self._given:
            try:
                _, high = self._consumer.get_watermark_offsets(place, cached=True)
            except KafkaException:
                continue
            found += max(0, high - self._reached.get(self._place(place), 0))
        return found
