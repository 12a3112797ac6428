"""State made again from the input, in the place of what cannot be trusted, while no worker runs.

Everything up to the group's committed offset has been published already, so that only the state is wanted: effects are
dropped. What comes after is left to the worker. Beside a running worker it is refused: see `beside`.
"""

import sys
from collections.abc import Iterator
from heapq import merge
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from tqdm import tqdm

from schemas.errors import BrokerError, SpendfuseError
from schemas.internal.spend import ALL_TENANTS, SpendDelta
from streams.broker_time import BrokerTime
from streams.clock import BrokerClock, pause, seconds
from streams.kafka.admin import UnsupportedByBrokerError, existing_topics, group_members, topics_on_broker
from streams.kafka.client import Admin, make_consumer, make_producer
from streams.kafka.leaders import watermarks
from streams.kafka.order_reader import OrderReader
from streams.kafka.partitioner import partition_of
from streams.kafka.state_reader import StateReader
from streams.process.policies import policy_in_force
from streams.settings import Settings
from streams.tools.inspection.terminal import confirm
from streams.worker.fence import FENCE_KEY, moved_on, write_fence
from streams.worker.generations.reading import newest_fences, records
from streams.worker.generations.silent import drain_rows, take_in, time_of
from streams.worker.partition import Partition
from streams.worker_group import GROUP

NEEDED = ("usage.v1", "operator.v1", "spend.v1", "state.v1")
TIMEOUT_S = 30.0
MARGIN_S = 5.0
"""How much longer than its session a worker that has ended may be taken for running."""
LOOK_EVERY_S = 0.5
AGAIN = """\
The workers' group has no offsets on usage.v1: nobody knows how far it was counted, and what follows from it published.
After a rebuild the workers count all that is still there from its beginning, and publish a second time:
  - every alert: alerting tells what it does not find on deliveries.v1, other readers hear of all of it twice
  - every kill and pause of that time, also of runs that were let go on since
  - every dead letter; rollups and runs are replaced by their like"""
ROWS_PER_TRANSACTION = 20_000
TAKE_ROWS_EVERY = 5000


class WorkersRunning(SpendfuseError):
    """Somebody works with the state that is to be replaced."""

    exit_code = 2


def run_rebuild(settings: Settings, *, publish_again: bool = False) -> int:
    """Rebuild every partition; returns the exit code.

    Args:
        settings: which cluster.
        publish_again: whether it is meant that what was published may be published a second time; without it, who
            sits at the terminal is asked, where that would be so.

    Raises:
        WorkersRunning: there are workers, or there may be.
        SettingsError: it is not meant.
        BrokerError: the broker does not answer.
    """
    count = len(existing_topics(settings, NEEDED)[settings.topic("usage.v1")].partitions)
    await_no_workers(settings)
    policy = policy_in_force(settings)
    consumer = make_consumer(settings, GROUP)
    try:
        if not publish_again and _nobody_knows_what_was_published(settings, consumer, count):
            print(AGAIN, file=sys.stderr)
            confirm("--publish-again")
        producer, brokers = _producer(settings), BrokerClock()
        BrokerTime(settings, brokers, "state.v1").ask(0)  # a fence says when it was written
        home = partition_of(ALL_TENANTS.encode(), count)
        deltas: list[SpendDelta] = []
        for number in sorted(range(count), key=lambda number: number == home):  # last, when all deltas are known
            partition = Partition(number, count, policy, {}, None, brokers=brokers)
            spend = _Spend(deltas, is_home=number == home)
            _rebuild(settings, consumer, producer, partition, spend)
    except KafkaException as error:
        raise BrokerError(error.args[0].str()) from error
    finally:
        consumer.close()
    return 0


def await_no_workers(settings: Settings) -> None:
    """Return when the workers' group has no members: one that has just ended is a member until its session is over.

    Raises:
        WorkersRunning: it still has some by then; names them.
    """
    deadline = seconds() + settings.session_timeout_ms / 1000 + MARGIN_S
    admin, group = Admin(settings), settings.group(GROUP)
    while members := _members(admin, group):
        if seconds() > deadline:
            raise WorkersRunning(
                f"{len(members)} members of the group {group} are running: {', '.join(members)}. Stop all workers, and "
                "rebuild again: what is rebuilt beside them would be overwritten, or overwrite what they count. "
                "Another generation of the state can be filled beside them: --generation, docs/operations/upgrades.md"
            )
        pause(LOOK_EVERY_S)


def _members(admin: Admin, group: str) -> list[str]:
    try:
        return group_members(admin, group)
    except UnsupportedByBrokerError:
        print("This broker cannot say whether workers are running. Make sure that none is.", file=sys.stderr)
        return []


def _nobody_knows_what_was_published(settings: Settings, consumer: Consumer, partitions: int) -> bool:
    """Whether there is input, and no offset of the group's that says how far it was counted."""
    inputs = [TopicPartition(settings.topic("usage.v1"), number) for number in range(partitions)]
    if any(one.offset >= 0 for one in consumer.committed(inputs, TIMEOUT_S)):
        return False
    ends = [watermarks(consumer, one, TIMEOUT_S) for one in inputs]
    return any(high > low for low, high in ends)


class _Spend(NamedTuple):
    """What is spent across tenants: added up anew from what all partitions have counted, so that nothing of spend.v1 is
    read. All that stands there is part of it.
    """

    deltas: list[SpendDelta]
    """Of the partitions rebuilt before."""
    is_home: bool
    """Whether they come together in this one."""

    def stream(self) -> Iterator[SpendDelta]:
        """What this partition takes in of the others, in the order of time."""
        return iter(sorted(self.deltas, key=lambda delta: delta.ts_ms) if self.is_home else ())


def _rebuild(settings: Settings, consumer: Consumer, producer: Producer, partition: Partition, spend: _Spend) -> None:
    number = partition.number
    inputs = [TopicPartition(settings.topic(name), number) for name in ("usage.v1", "operator.v1")]
    ends = [max(0, one.offset) for one in consumer.committed(inputs, TIMEOUT_S)]
    lows = [watermarks(consumer, one, TIMEOUT_S)[0] for one in inputs]
    if lows[0] > 0:
        print(
            f"partition {number}: usage.v1 before offset {lows[0]} has been deleted by retention; "
            "periods and medians that reach further back will be lower than they were",
            file=sys.stderr,
        )
    rows: dict[bytes, bytes] = {}
    orders = OrderReader.of(settings)
    streams: list[Iterator[Any]] = [
        records(settings, one.topic, {number: (low, end)}) for one, low, end in zip(inputs, lows, ends, strict=True)
    ]
    total = sum(max(0, end - low) for low, end in zip(lows, ends, strict=True))
    ordered = merge(*streams, spend.stream(), key=time_of)
    for index, message in enumerate(tqdm(ordered, total=total, desc=f"partition {number}", disable=None), 1):
        take_in(partition, message, inputs[0].topic, orders)
        if index % TAKE_ROWS_EVERY == 0:
            _take_rows(partition, spend, rows)
    _take_rows(partition, spend, rows)
    partition.usage_offset, partition.operator_offset = ends[0] - 1, ends[1] - 1
    partition.spend_offset = watermarks(consumer, TopicPartition(settings.topic("spend.v1"), number), TIMEOUT_S)[1] - 1
    await_no_workers(settings)
    _write(settings, producer, partition, rows)
    print(f"partition {number}: {len(rows):,} rows rebuilt, up to offset {ends[0] - 1} of usage.v1")


def _take_rows(partition: Partition, spend: _Spend, rows: dict[bytes, bytes]) -> None:
    for key, value in drain_rows(partition, spend.deltas, is_home=spend.is_home):
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value


def _write(settings: Settings, producer: Producer, partition: Partition, rows: dict[bytes, bytes]) -> None:
    """The old rows out, the new ones in, the fence last: until it stands, no worker starts from what is there."""
    topic, number = settings.topic("state.v1"), partition.number
    old = StateReader(settings, lambda: None).read([number])[number]
    fence = partition.fence()
    written: list[tuple[bytes, bytes | None]] = [(FENCE_KEY, None)]
    written += [(key, None) for key in old if key not in rows and key != FENCE_KEY]
    written += rows.items()
    for first in range(0, len(written), ROWS_PER_TRANSACTION):
        producer.begin_transaction()
        for key, value in written[first : first + ROWS_PER_TRANSACTION]:
            producer.produce(topic, value, key, number)
        producer.commit_transaction(TIMEOUT_S)
    left = _left(settings, number)
    producer.begin_transaction()
    for other in left:
        producer.produce(other, write_fence(moved_on(fence, settings.state_generation)), FENCE_KEY, number)
    producer.produce(topic, write_fence(fence), FENCE_KEY, number)
    producer.commit_transaction(TIMEOUT_S)


def _left(settings: Settings, number: int) -> list[str]:
    """Changelogs of earlier generations that have state of the partition: from here on nobody may go on from there."""
    topics = topics_on_broker(Admin(settings))
    others = [settings.at_generation(one) for one in range(1, settings.state_generation)]
    return [
        other.topic("state.v1")
        for other in others
        if other.topic("state.v1") in topics and newest_fences(other, [number])
    ]


def _producer(settings: Settings) -> Producer:
    producer = make_producer(
        settings,
        {"transactional.id": f"{settings.prefix}engine-rebuild", "retry.backoff.ms": 2, "linger.ms": 1},
    )
    producer.init_transactions(TIMEOUT_S)
    return producer
