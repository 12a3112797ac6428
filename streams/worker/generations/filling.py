"""One partition of a generation of the state, filled from the input while workers keep the generation before.

It follows them in silence: what they have counted is counted here too, and what follows from it they have published, so
that nothing leaves but rows, the fence, and what was spent across tenants, which each generation has a topic of its own
for. Every transaction of rows ends with a fence: whoever is cut off goes on behind the last one.

A partition has one filler at a time. Each begins with the transactional id of that partition and generation, which ends
what another one has open; a worker that takes the partition over is the last of them.
"""

from collections.abc import Callable, Iterator
from heapq import merge
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from models.rules.policy import Policy
from models.state.rows import SCHEMA
from schemas.codec import decode_spend, encode
from schemas.duration import HOUR_MS
from schemas.errors import SpendfuseError, StateError, Undecodable
from schemas.internal.spend import ALL_TENANTS, SpendDelta
from streams.clock import BrokerClock, seconds
from streams.kafka.client import cause_of, make_consumer, make_producer, refuse_without_rights
from streams.kafka.order_reader import OrderReader
from streams.kafka.partitioner import partition_of
from streams.kafka.state_reader import StateReader
from streams.settings import Settings
from streams.worker.fence import FENCE_KEY, Fence, moved_on, read_fence, refuse_lost_state, write_fence
from streams.worker.generations.reading import QUERY_TIMEOUT_S, bounds, newest_fences, records
from streams.worker.generations.silent import drain_rows, take_in, time_of
from streams.worker.partition import Partition, next_offsets
from streams.worker_group import GROUP

CALL_S: Final = 60.0
OFFSETS_S: Final = 5.0
TRANSACTION_MS: Final = 300_000
"""How long writing the rows of one commit may take. Whoever comes next does not wait for one that was cut off: the same
transactional id ends it."""
COMMIT_EVERY_S: Final = 30.0
"""Seldom: a row that has changed many times meanwhile is written once."""
TAKE_EVERY: Final = 5000
SEEN_MS: Final = 5_000
"""So much older than the first that the former owner has not read must spend be to count as published by it."""


class TakenOver(SpendfuseError):  # an event, for whoever fills
    """A worker has taken this partition over."""


class FilledElsewhere(TakenOver):
    """Another process has begun later to fill this partition: another rebuild, or a worker that takes it over."""


class Predecessor:
    """The generation that workers keep meanwhile: how far it has come in a partition.

    Args:
        settings: of that generation.
        generation: the one that follows it.
    """

    def __init__(self, settings: Settings, generation: int, partitions: int, alive: Callable[[], None]) -> None:
        self._settings = settings
        self._generation = generation
        self._partitions = partitions
        self._alive = alive

    @property
    def number(self) -> int:
        """Which generation it is."""
        return self._settings.state_generation

    def fence(self, number: int) -> Fence | None:
        """Its newest fence of a partition; None where it has no state.

        Raises:
            TakenOver: the generation that follows it has taken the partition over.
            StateError: it does not keep this partition, or its state is lost.
        """
        found = newest_fences(self._settings, [number], self._alive).get(number)
        if found is None:
            refuse_lost_state(number, self._counted(number), self.number)
            return None
        if found.moved_on_to == self._generation:
            raise TakenOver(f"partition {number}: workers of generation {self._generation} have taken it over")
        if found.moved_on_to or found.is_being_filled:
            keeper = found.moved_on_to or found.predecessor
            raise StateError(
                f"partition {number}: it is not generation {self.number} that workers keep, but {keeper}. Set "
                f"SPENDFUSE_STATE_GENERATION={keeper} for this process"
            )
        return found

    def _counted(self, number: int) -> int:
        """The offset of usage.v1 before which the group has counted."""
        consumer = make_consumer(self._settings, GROUP)
        try:
            [place] = consumer.committed([TopicPartition(self._settings.topic("usage.v1"), number)], QUERY_TIMEOUT_S)
        finally:
            consumer.close()
        return place.offset

    def has_published_until_ms(self, number: int, fence: Fence | None, now_ms: int) -> int:
        """Of what was spent across tenants it has published what follows, as far as that was passed on before this
        time: what its owner has not read is not, nor what partitions that were taken over have spent since.
        """
        until_ms = now_ms
        topic = self._settings.topic("spend.v1")
        low, end = bounds(self._settings, topic, number)
        start = low if fence is None else max(low, fence.spend_offset + 1)
        unread = next(records(self._settings, topic, {number: (start, end)}, self._alive), None)
        if unread is not None:
            until_ms = unread.timestamp()[1]
        others = newest_fences(self._settings, range(self._partitions), self._alive).values()
        taken_ms = [each.taken_over_ms for each in others if each.moved_on_to == self._generation]
        return min([until_ms, *taken_ms]) - SEEN_MS


class Filling:
    """Fills one partition: `begin`, then `follow`, and `take_over` for a worker. Made anew each time."""

    def __init__(
        self,
        settings: Settings,
        number: int,
        partitions: int,
        predecessor: Predecessor,
        brokers: BrokerClock,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        """`settings` are those of the generation that is filled; `alive` is called again and again meanwhile."""
        self._settings = settings
        self._number = number
        self._partitions = partitions
        self._predecessor = predecessor
        self._brokers = brokers
        self._alive = alive
        self._orders = OrderReader.of(settings)
        self._is_home = partition_of(ALL_TENANTS.encode(), partitions) == number
        self._rows: dict[bytes, bytes | None] = {}
        self._deltas: list[SpendDelta] = []
        self._producer: Producer
        self.partition: Partition
        self._hour = 0

    def begin(self, policy: Policy) -> None:
        """Go on behind the last fence; from the beginning where there is none.

        Raises:
            StateError: this generation has been used for something else.
            FilledElsewhere: another process has begun later.
            BrokerError: the broker does not allow it.
            KafkaException: the broker does not do it now.
        """
        self._producer = self._start()
        rows = StateReader(self._settings, self._alive).read([self._number])[self._number]
        fence = read_fence(self._number, rows.pop(FENCE_KEY, None), len(rows))
        if fence is None:
            found = Partition(self._number, self._partitions, policy, {}, None, 0, self._alive, self._brokers)
            found.usage_offset, found.operator_offset, found.spend_offset = (
                bounds(self._settings, self._settings.topic(name), self._number)[0] - 1
                for name in ("usage.v1", "operator.v1", "spend.v1")
            )
        else:
            self._refuse_used(fence)
            found = Partition(self._number, self._partitions, policy, rows, fence, 0, self._alive, self._brokers)
        found.predecessor = self._predecessor.number
        found.engine.catch_up()
        self.partition = found

    def _refuse_used(self, fence: Fence) -> None:
        """A generation is filled once: what was spent across tenants, and passed on, cannot be taken back."""
        generation = self._settings.state_generation
        if not fence.is_being_filled:
            why = "workers keep it, or have kept it"
        elif fence.schema != SCHEMA:
            why = (
                f"a version with state of schema {fence.schema} has begun to fill it, and this one has schema {SCHEMA}"
            )
        elif fence.partitions != self._partitions:
            why = f"it was begun for {fence.partitions} partitions, and there are {self._partitions}"
        elif fence.predecessor != self._predecessor.number:
            why = f"it was begun beside generation {fence.predecessor}, and not {self._predecessor.number}"
        else:
            return
        raise StateError(
            f"partition {self._number}: generation {generation} of the state cannot be filled: {why}. Fill one that "
            f"was never used, such as --generation {generation + 1}"
        )

    def behind(self, left: Fence | None) -> int:
        """How many offsets of usage.v1 the workers of the generation before are ahead."""
        return 0 if left is None else max(0, left.usage_offset - self.partition.usage_offset)

    def follow(self, left: Fence | None, on_record: Callable[[], object] = lambda: None) -> None:
        """Take in what they have counted, up to their fence `left`, and commit it.

        Raises:
            FilledElsewhere: another process has this partition now.
            BrokerError: the input cannot be read, or the broker does not allow it.
            KafkaException: the broker does not do it now.
        """
        ends = (0, 0) if left is None else (left.usage_offset + 1, left.operator_offset + 1)
        partition = self.partition
        starts = (partition.usage_offset + 1, partition.operator_offset + 1)
        topics = tuple(self._settings.topic(name) for name in ("usage.v1", "operator.v1"))
        spend, spend_offset = self._spend(left)
        streams: list[Iterator[Any]] = [
            records(self._settings, topic, {self._number: (start, end)}, self._alive)
            for topic, start, end in zip(topics, starts, ends, strict=True)
        ]
        due = seconds() + COMMIT_EVERY_S
        for index, message in enumerate(merge(*streams, spend, key=time_of), 1):
            take_in(partition, message, topics[0], self._orders)
            on_record()
            if index % TAKE_EVERY == 0 or self._turn_hour(message):
                self._alive()
                self._drain()
                if seconds() > due and not spend:  # that is part of the fence as a whole
                    self._commit()
                    due = seconds() + COMMIT_EVERY_S
        partition.usage_offset = max(partition.usage_offset, ends[0] - 1)
        partition.operator_offset = max(partition.operator_offset, ends[1] - 1)
        partition.spend_offset = spend_offset
        self._drain()
        self._commit()

    def take_over(self, left: Fence | None, consumer: Consumer) -> None:
        """Go on for the workers of the generation before, all of whose work up to `left` has been taken in: in one
        transaction the state is this generation's, theirs says so, and the group's offsets go on. The group refuses it
        from a `consumer` that has lost the partition. Raises as `follow` does.
        """
        partition = self.partition
        partition.take_over(left)
        if left is not None and left.policy_stamp == partition.engine.policy.stamp:
            partition.engine.catch_up()
        self._drain()
        self._commit(consumer)

    def _turn_hour(self, message: Any) -> bool:
        """Go to the message's hour. Returns whether it is another one than before: of what was spent across tenants,
        nothing is to be passed on a day late.
        """
        hour = time_of(message) // HOUR_MS
        is_another, self._hour = hour != self._hour, hour
        return is_another

    def _spend(self, left: Fence | None) -> tuple[list[SpendDelta], int]:
        """What all partitions have passed on to this one, in the order of time, as far as what follows from it has been
        published; and the offset of the last of it. The rest is for whoever takes the partition over to publish.
        """
        topic, start = self._settings.topic("spend.v1"), self.partition.spend_offset + 1
        low, end = bounds(self._settings, topic, self._number)
        start = max(low, start)
        if not self._is_home:
            return [], end - 1
        until_ms = self._predecessor.has_published_until_ms(self._number, left, self._brokers.now_ms())
        found: list[SpendDelta] = []
        last = start - 1
        for message in records(self._settings, topic, {self._number: (start, end)}, self._alive):
            if message.timestamp()[1] >= until_ms:
                break
            last = message.offset()
            try:
                found.append(decode_spend(message.value()))
            except Undecodable:
                continue  # its dead letter has been written, by whoever owns the partition
        return sorted(found, key=lambda delta: delta.ts_ms), last

    def _drain(self) -> None:
        """What the workers of the generation before have published is not published again: rows are kept, and what was
        spent across tenants.
        """
        self._rows.update(drain_rows(self.partition, self._deltas, is_home=self._is_home))

    def _commit(self, taking_over: Consumer | None = None) -> None:
        """Rows, what was spent across tenants, and the fence last, all at once."""
        topic, spend_topic = self._settings.topic("state.v1"), self._settings.topic("spend.v1")
        try:
            self._producer.begin_transaction()
            for key, value in self._rows.items():
                self._send(topic, key, value, self._number)
            for delta in self._deltas:
                self._send(spend_topic, ALL_TENANTS.encode(), encode(delta), -1)
            fence = self.partition.fence()
            if taking_over is not None:
                self._leave_mark(fence, taking_over)
            self._send(topic, FENCE_KEY, write_fence(fence), self._number)
            self._producer.commit_transaction(CALL_S)
        except KafkaException as error:
            reason = cause_of(self._producer, error.args[0])
        else:
            self._rows, self._deltas = {}, []
            self.partition.committed()
            return
        raise self._meaning(reason)

    def _leave_mark(self, fence: Fence, consumer: Consumer) -> None:
        mark = write_fence(moved_on(fence, self._settings.state_generation))
        before = self._settings.at_generation(self._predecessor.number)
        self._send(before.topic("state.v1"), FENCE_KEY, mark, self._number)
        offsets = next_offsets(self._settings, self.partition)
        self._producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), OFFSETS_S)

    def _send(self, topic: str, key: bytes, value: bytes | None, number: int) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, number, timestamp=self._brokers.now_ms())
            except BufferError:
                self._producer.poll(0.05)
                self._alive()
            else:
                return

    def _start(self) -> Producer:
        generation = self._settings.state_generation
        producer = make_producer(
            self._settings,
            {
                "transactional.id": f"{self._settings.prefix}engine-rebuild-g{generation}-{self._number}",
                "transaction.timeout.ms": TRANSACTION_MS,
                "linger.ms": 1,
                "compression.type": "lz4",
                "message.max.bytes": 4 * 1024 * 1024,
                "delivery.report.only.error": True,
                "retry.backoff.ms": 2,
                "retry.backoff.max.ms": 50,
                "log_level": 0,
            },
        )
        try:
            producer.init_transactions(CALL_S)
        except KafkaException as error:
            reason = error.args[0]
        else:
            return producer
        raise self._meaning(reason)

    def _meaning(self, reason: KafkaError) -> TakenOver | KafkaException:
        """What an answer of the broker means. Raises `BrokerError` if it does not allow it."""
        refuse_without_rights(reason)
        if reason.code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH):
            return FilledElsewhere(
                f"partition {self._number}: another process fills it now, or a worker of generation "
                f"{self._settings.state_generation} takes it over"
            )
        return KafkaException(reason)
