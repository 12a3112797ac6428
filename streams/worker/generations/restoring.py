"""A partition made of the rows of its changelog; or of what was filled beside the workers of the generation before,
which it takes over from.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

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
    Fence,
    check_fence,
    check_reach,
    read_fence,
    refuse_left_behind,
    refuse_lost_state,
)
from streams.worker.generations.filling import Filling, Predecessor, TakenOver
from streams.worker.generations.published import levels_since
from streams.worker.partition import Partition

log = logging.getLogger("spendfuse.generations")

QUERY_TIMEOUT_S: Final = 15.0
LONG: Final = 1_000_000
"""More records than these take half a minute and longer to read: a rebuild that goes on until now makes it short."""
LOOK_BACK_MS: Final = DAY_MS
"""How long before a takeover levels of limits across tenants may have been published that are reached again."""
TRIES: Final = 20
AGAIN_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the partitions that a worker is given at once have in common.

    Args:
        consumer: the worker's member of the group.
        committed: the group's offsets by topic and partition.
        partitions: how many the input has in all.
        policy: in force, and since when.
    """

    consumer: Consumer
    committed: Mapping[tuple[str, int], int]
    partitions: int
    policy: PolicyChanged


class _Extent(NamedTuple):
    """The first offset that a partition of a topic still holds, and the one that comes next."""

    low: int
    high: int


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

    def partition(self, assignment: Assignment, number: int, rows: dict[bytes, bytes]) -> Partition:
        """The partition of that number, made of the newest row of each key in its changelog.

        Raises:
            StateError: this state must not be used; says what to do.
            BrokerError: the broker does not allow it.
            KafkaException: the broker does not answer.
        """
        partition = self._checked(assignment, number, rows)
        if partition.has_left_another and partition_of(ALL_TENANTS.encode(), assignment.partitions) == number:
            since_ms = partition.taken_over_ms - LOOK_BACK_MS
            partition.published = levels_since(self._settings, number, since_ms, self._alive)
        return partition

    def _checked(self, assignment: Assignment, number: int, rows: dict[bytes, bytes]) -> Partition:
        """The partition, unless its fence says that its rows, or what they were made of, are not all there."""
        settings, policy = self._settings, assignment.policy
        fence = read_fence(number, rows.pop(FENCE_KEY, None), len(rows))
        usage = self._extent(assignment, "usage.v1", number)
        spend = self._extent(assignment, "spend.v1", number)
        group_offset = assignment.committed.get((settings.topic("usage.v1"), number), -1)
        if fence is None:
            refuse_lost_state(number, group_offset, settings.state_generation)
            partition = self._made(assignment, number, rows, None, policy_ms=0)
            partition.usage_offset, partition.spend_offset = usage.low - 1, spend.low - 1
            return partition
        check_fence(number, fence, assignment.partitions)
        accept_gap = settings.accept_input_gap
        check_reach(number, "usage.v1", fence.usage_offset, *usage, accept_gap=accept_gap)
        check_reach(number, "spend.v1", fence.spend_offset, *spend, accept_gap=accept_gap)
        if fence.is_being_filled:
            return self._taken_over(assignment, number, fence.predecessor)
        refuse_left_behind(number, fence, group_offset, settings.state_generation)
        if group_offset not in (fence.usage_offset + 1, -1001, -1):
            log.warning(
                "the group's offset differs from the fence, which rules",
                extra=fields(partition=number, group_offset=group_offset, fence=fence.usage_offset + 1),
            )
        # With more to read, the partition's time has not come to the policy's: nobody knows yet what comes before it.
        policy_ms = policy.at_ms if fence.usage_offset + 1 >= usage.high else 0
        partition = self._made(assignment, number, rows, fence, policy_ms)
        partition.usage_offset = max(fence.usage_offset, usage.low - 1)
        partition.spend_offset = max(fence.spend_offset, spend.low - 1)
        return partition

    def _extent(self, assignment: Assignment, topic: str, number: int) -> _Extent:
        place = TopicPartition(self._settings.topic(topic), number)
        return _Extent(*watermarks(assignment.consumer, place, QUERY_TIMEOUT_S))

    def _made(
        self, assignment: Assignment, number: int, rows: dict[bytes, bytes], fence: Fence | None, policy_ms: int
    ) -> Partition:
        policy = assignment.policy.policy
        return Partition(number, assignment.partitions, policy, rows, fence, policy_ms, self._alive, self._brokers)

    def _taken_over(self, assignment: Assignment, number: int, before: int) -> Partition:
        """From the workers of the generation `before`. Whoever still fills the partition is ended by this."""
        for _ in range(TRIES):
            try:
                return self._take_over(assignment, number, before)
            except TakenOver as other:
                said = str(other)
            log.warning("the partition is not taken over yet", extra=fields(error=said))
            self._alive()
            pause(AGAIN_S)
        raise StateError(f"{said}. If `rebuild` runs, end it, and start this worker again")

    def _take_over(self, assignment: Assignment, number: int, before: int) -> Partition:
        partitions = assignment.partitions
        started, generation = seconds(), self._settings.state_generation
        predecessor = Predecessor(self._settings.at_generation(before), generation, partitions, self._alive)
        filling = Filling(self._settings, number, partitions, predecessor, self._brokers, self._follows)
        filling.begin(assignment.policy.policy)
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
        filling.take_over(left, assignment.consumer)
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
