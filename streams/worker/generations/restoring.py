"""A partition made of the rows of its changelog; or of what was filled beside the workers of the generation before,
which it takes over from.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Final

from confluent_kafka import Consumer, TopicPartition

from models.stimuli import PolicyChanged
from schemas.duration import DAY_MS
from schemas.errors import StateError
from schemas.internal.spend import ALL_TENANTS
from streams.clock import BrokerClock, pause, seconds
from streams.kafka.leaders import watermarks
from streams.kafka.partitioner import partition_of
from streams.process.crash_points import CrashPoints
from streams.process.logs import fields
from streams.settings import Settings
from streams.worker.fence import (
    FENCE_KEY,
    check_fence,
    check_reach,
    read_fence,
    refuse_left_behind,
    refuse_lost_state,
)
from streams.worker.generations.filling import Filling, Predecessor, TakenOver
from streams.worker.generations.told import told_since
from streams.worker.partition import Partition

log = logging.getLogger("spendfuse.generations")

QUERY_TIMEOUT_S: Final = 15.0
LONG: Final = 1_000_000
"""More records than these take half a minute and longer to read: a rebuild that goes on until now makes it short."""
TOLD_MS: Final = DAY_MS
"""So long before a takeover is looked for what was told of limits across tenants."""
TRIES: Final = 20
AGAIN_S: Final = 0.5


class Restorer:
    """Brings partitions back.

    Args:
        settings: which cluster, and which generation of the state.
        brokers: the brokers' clock.
        crash: where tests have the process die.
        alive: called again and again while something takes long.
    """

    def __init__(self, settings: Settings, brokers: BrokerClock, crash: CrashPoints, alive: Callable[[], None]) -> None:
        self._settings = settings
        self._brokers = brokers
        self._crash = crash
        self._alive = alive

    def partition(
        self,
        consumer: Consumer,
        number: int,
        partitions: int,
        rows: dict[bytes, bytes],
        committed: Mapping[tuple[str, int], int],
        policy: PolicyChanged,
    ) -> Partition:
        """Of so many partitions the one of that number, with the newest row of each key and the group's offsets.

        Raises:
            StateError: this state must not be used; says what to do.
            BrokerError: the broker does not allow it.
            KafkaException: the broker does not answer.
        """
        found = self._found(consumer, number, partitions, rows, committed, policy)
        if found.has_left_another and partition_of(ALL_TENANTS.encode(), partitions) == number:
            found.told = told_since(self._settings, number, found.taken_over_ms - TOLD_MS, self._alive)
        return found

    def _found(
        self,
        consumer: Consumer,
        number: int,
        partitions: int,
        rows: dict[bytes, bytes],
        committed: Mapping[tuple[str, int], int],
        policy: PolicyChanged,
    ) -> Partition:
        settings = self._settings
        fence = read_fence(number, rows.pop(FENCE_KEY, None), len(rows))
        low, high = watermarks(consumer, TopicPartition(settings.topic("usage.v1"), number), QUERY_TIMEOUT_S)
        spend_place = TopicPartition(settings.topic("spend.v1"), number)
        spend_low, spend_high = watermarks(consumer, spend_place, QUERY_TIMEOUT_S)
        group_offset = committed.get((settings.topic("usage.v1"), number), -1)
        if fence is None:
            refuse_lost_state(number, group_offset, settings.state_generation)
            partition = Partition(number, partitions, policy.policy, rows, None, 0, self._alive, self._brokers)
            partition.usage_offset, partition.spend_offset = low - 1, spend_low - 1
            return partition
        check_fence(number, fence, partitions)
        accept_gap = settings.accept_input_gap
        check_reach(number, "usage.v1", fence.usage_offset, low, high, accept_gap=accept_gap)
        check_reach(number, "spend.v1", fence.spend_offset, spend_low, spend_high, accept_gap=accept_gap)
        if fence.is_being_filled:
            return self._taken_over(consumer, number, partitions, fence.predecessor, policy)
        refuse_left_behind(number, fence, group_offset, settings.state_generation)
        if group_offset not in (fence.usage_offset + 1, -1001, -1):
            log.warning(
                "the group's offset differs from the fence, which rules",
                extra=fields(partition=number, group_offset=group_offset, fence=fence.usage_offset + 1),
            )
        # With more to read, the partition's time has not come to the policy's: nobody knows yet what comes before it.
        policy_ms = policy.at_ms if fence.usage_offset + 1 >= high else 0
        partition = Partition(number, partitions, policy.policy, rows, fence, policy_ms, self._alive, self._brokers)
        partition.usage_offset = max(fence.usage_offset, low - 1)
        partition.spend_offset = max(fence.spend_offset, spend_low - 1)
        return partition

    def _taken_over(
        self, consumer: Consumer, number: int, partitions: int, before: int, policy: PolicyChanged
    ) -> Partition:
        """From the workers of the generation `before`. Whoever still fills the partition is ended by this."""
        for _ in range(TRIES):
            try:
                return self._take_over(consumer, number, partitions, before, policy)
            except TakenOver as other:
                said = str(other)
            log.warning("the partition is not taken over yet", extra=fields(error=said))
            self._alive()
            pause(AGAIN_S)
        raise StateError(f"{said}. If `rebuild` runs, end it, and start this worker again")

    def _take_over(
        self, consumer: Consumer, number: int, partitions: int, before: int, policy: PolicyChanged
    ) -> Partition:
        started, generation = seconds(), self._settings.state_generation
        predecessor = Predecessor(self._settings.at_generation(before), generation, partitions, self._alive)
        filling = Filling(self._settings, number, partitions, predecessor, self._brokers, self._follows)
        filling.begin(policy.policy)
        left = predecessor.fence(number)
        behind = filling.behind(left)
        if behind > LONG:
            log.warning(
                "much is to be read before this partition can be taken over; end this worker, go back to the "
                "generation before, and run the rebuild again to have it short",
                extra=fields(partition=number, behind=behind),
            )
        filling.follow(left)
        self._crash("taking_over")
        filling.take_over(left, consumer)
        self._crash("taken_over")
        log.info(
            "partition taken over from the generation before",
            extra=fields(
                partition=number, generation=generation, before=before, behind=behind,
                seconds=round(seconds() - started, 3),
            ),
        )  # fmt: skip
        return filling.partition

    def _follows(self) -> None:
        self._crash("following")
        self._alive()
