"""State that does not match its own proof is not used: the worker ends with code 3 and says what to do.

Numbers of rows are those of the fault matrix.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it offers these names, but does not export them
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
)

from streams.kafka.admin import group_members
from streams.kafka.client import Admin
from streams.kafka.leaders import watermarks
from streams.kafka.topics import apply
from streams.settings import Settings
from streams.worker.worker import CO_PARTITIONED
from tests.integration.proof import FENCE, check_state, newest
from tests.support.kafka import Record, TopicSpace, produce, read_all, wait_until
from tests.support.load import POLICY, Flow, Shape, usage_log
from tests.support.rebuild import rebuild
from tests.support.worker_process import WorkerProcess

SEED = 20_261_125
REBUILD = "python -m streams rebuild --from-input"


@dataclass(frozen=True, slots=True)
class Settled:
    """A set of topics over which a worker has run and ended in order."""

    space: TopicSpace
    policy: Path
    ends: dict[int, int]
    admin: Admin

    @property
    def partition(self) -> int:
        """One that has state."""
        return min(self.ends)

    def start(self, **settings: Any) -> WorkerProcess:
        return WorkerProcess(self.space.bootstrap, self.space.prefix, self.policy, **settings)

    def feed(self) -> None:
        """A small log that follows, under other ids."""
        log = usage_log(Shape(400, SEED + 1, tenants=6, history_hours=3, busy_hours=1))
        flow = Flow(self.space.bootstrap, self.space.name("usage.v1"), [each for each in log if each.reason is None])
        flow.start()
        flow.finish()
        self.ends.update(flow.ends)

    def rows(self) -> dict[bytes, bytes]:
        """The newest rows of the partition."""
        records = read_all(self.space.bootstrap, self.space.name("state.v1"))
        return newest(record for record in records if record.partition == self.partition)

    def write(self, key: bytes, value: bytes | None) -> None:
        """Put a row where only workers should."""
        row = Record(value, key, partition=self.partition)
        produce(self.space.bootstrap, self.space.name("state.v1"), [row])

    def change_fence(self, **fields: Any) -> None:
        self.write(FENCE, json.dumps(json.loads(self.rows()[FENCE]) | fields).encode())

    def moves_group(self, moved: ConsumerGroupTopicPartitions) -> bool:
        """Set a group's offset by hand; False while the group has members."""
        [answer] = self.admin.alter_consumer_group_offsets([moved]).values()
        try:
            return all(each.error is None for each in answer.result(20).topic_partitions)
        except KafkaException:
            return False

    def delete_before(self, topic: str, offset: int) -> None:
        """Drop the partition's records before an offset, as retention would."""
        place = TopicPartition(self.space.name(topic), self.partition, offset)
        for future in self.admin.delete_records([place]).values():
            future.result(20)


@pytest.fixture
def settled(kafka_topics: TopicSpace, tmp_path: Path) -> Settled:
    """State of 400 records."""
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    # Over before what comes later begins: a deadline that lies behind a tenant's time waits for whichever comes next, a
    # record or a tick, and ticks are not part of the log.
    log = usage_log(Shape(400, SEED, tenants=6, history_hours=3, busy_hours=1, hours_ago=4))
    flow = Flow(kafka_topics.bootstrap, kafka_topics.name("usage.v1"), log)
    flow.start()
    flow.finish()
    settled = Settled(kafka_topics, policy, dict(flow.ends), Admin(Settings(kafka_bootstrap=kafka_topics.bootstrap)))
    with settled.start() as worker:
        worker.wait_applied(flow.ends)
        assert worker.stop() == 0, worker.tail()
    return settled


def a_run(settled: Settled) -> bytes:
    """The key of some run's row."""
    return min(key for key in settled.rows() if key.startswith(b'["run"'))


def end_of(settled: Settled, topic: str) -> int:
    """The offset after a topic's last readable record."""
    consumer = Consumer({"bootstrap.servers": settled.space.bootstrap, "group.id": "nobody"})
    try:
        place = TopicPartition(settled.space.name(topic), settled.partition)
        return watermarks(consumer, place, 15)[1]
    finally:
        consumer.close()


def cut(settled: Settled) -> None:
    """Somebody has the changelog's old records deleted, which its own setting forbids."""
    name = settled.space.name("state.v1")
    entry = ConfigEntry("cleanup.policy", "compact,delete", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=[entry])
    for future in settled.admin.incremental_alter_configs([resource]).values():
        future.result(20)
    end = end_of(settled, "state.v1")

    def accepted() -> bool:
        try:
            settled.delete_before("state.v1", end - 10)
        except KafkaException:
            return False
        return True

    wait_until(accepted, 20, "the broker follows the changed setting")


def recreate(settled: Settled, topic: str) -> None:
    name = settled.space.name(topic)
    admin = settled.admin
    admin.delete_topics([name])[name].result(20)
    wait_until(lambda: name not in admin.list_topics(timeout=10).topics, 20, f"{name} is gone")
    apply(admin, settled.space.prefix, settled.space.partitions, replication=1)


def expire(settled: Settled) -> None:
    """Input that was never counted is deleted, all but the last record."""
    settled.feed()
    settled.delete_before("usage.v1", settled.ends[settled.partition])


def grow(settled: Settled) -> None:
    names = [settled.space.name(topic) for topic in CO_PARTITIONED]
    for future in settled.admin.create_partitions([NewPartitions(name, 6) for name in names]).values():
        future.result(20)
    wait_until(
        lambda: all(len(settled.admin.list_topics(name, timeout=10).topics[name].partitions) == 6 for name in names),
        20,
        "six partitions are seen",
    )


TAMPERINGS: dict[str, tuple[Callable[[Settled], None], tuple[str, ...]]] = {
    "row27-changelog-cut": (cut, ("digest", REBUILD)),
    "row28-changelog-made-anew": (
        lambda settled: recreate(settled, "state.v1"), ("its state is lost", REBUILD)
    ),
    "row29-row-unreadable": (
        lambda settled: settled.write(a_run(settled), b"garbage"), ("cannot be read", "run", REBUILD)
    ),
    "row29-row-altered": (
        lambda settled: settled.write(a_run(settled), bytes(16) + b"\x90"), ("digest", REBUILD)
    ),
    "row29-row-gone": (
        lambda settled: settled.write(a_run(settled), None), ("rows are missing, altered", REBUILD)
    ),
    "row29-fence-unreadable": (
        lambda settled: settled.write(FENCE, b"{}"), ("the fence row cannot be read", REBUILD)
    ),
    "row29-fence-gone": (
        lambda settled: settled.write(FENCE, None), ("no fence row", REBUILD)
    ),
    "I7-wrong-digest": (
        lambda settled: settled.change_fence(digest="00000000deadbeef"), ("its fence says 00000000deadbeef", REBUILD)
    ),
    "row30-input-expired": (
        expire, ("was deleted before it was counted", "SPENDFUSE_ACCEPT_INPUT_GAP=true")
    ),
    "row31-more-partitions": (
        grow, ("now there are 6", "tenants have moved", REBUILD)
    ),
    "row34-newer-schema": (
        lambda settled: settled.change_fence(schema=99), ("written by a newer version", "Run that version")
    ),
    "input-made-anew": (
        lambda settled: recreate(settled, "usage.v1"),
        ("it was deleted and made anew", "Delete state.v1 and spend.v1 too"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERINGS)
def test_it_refuses_and_says_what_to_do(settled: Settled, name: str) -> None:
    """Rows 27 to 31 and 34: exit code 3, a sentence with the partition and the way out, and no output at all."""
    tamper, words = TAMPERINGS[name]
    tamper(settled)
    before = len(read_all(settled.space.bootstrap, settled.space.name("alerts.v1")))
    with settled.start() as worker:
        assert worker.wait_exit() == 3, worker.tail()
        assert [word for word in words if word not in worker.text] == [], worker.tail()
        assert "Traceback" not in worker.text
    assert len(read_all(settled.space.bootstrap, settled.space.name("alerts.v1"))) == before


def test_what_it_says_to_do_helps(settled: Settled) -> None:
    """Row 27: after the rebuild that the refusal names, the worker counts on, and its state is that of a fresh engine
    over the log, for all partitions and with what came later.
    """
    cut(settled)
    with settled.start() as worker:
        assert worker.wait_exit() == 3, worker.tail()
        assert REBUILD in worker.text
    rebuilt = rebuild(settled.space, settled.policy)
    assert rebuilt.returncode == 0, rebuilt.stderr
    settled.feed()
    with settled.start() as worker:
        worker.wait_applied(settled.ends)
        assert worker.stop() == 0, worker.tail()
    check_state(settled.space, POLICY, "rebuilt")


def state_rows(settled: Settled) -> int:
    """How many rows were ever written, fences left out: a worker writes those with whatever it has to say."""
    records = read_all(settled.space.bootstrap, settled.space.name("state.v1"))
    return sum(record.key != FENCE for record in records)


def test_a_rebuild_beside_a_worker_is_refused(settled: Settled) -> None:
    """Row 27: the group's members are named, and not a row is written; the worker goes on as if nothing had been."""
    with settled.start(slot="busy") as worker:
        worker.wait_applied(settled.ends)
        before = state_rows(settled)
        refused = rebuild(settled.space, settled.policy)
        assert refused.returncode == 2
        assert "engine-busy on 127.0.0.1" in refused.stderr
        assert "Stop all workers" in refused.stderr
        assert state_rows(settled) == before
        assert worker.stop() == 0, worker.tail()


def test_a_rebuild_that_would_publish_again_asks(settled: Settled) -> None:
    """Row 32: without the group's offsets it says what would come twice, and does nothing until that is meant; then the
    workers do count again, and everything is on the topics twice.
    """
    alerts = len(read_all(settled.space.bootstrap, settled.space.name("alerts.v1")))
    group = f"{settled.space.prefix}spendfuse-engine"
    wait_until(lambda: not group_members(settled.admin, group), 30, "the group is empty")
    settled.admin.delete_consumer_groups([group])[group].result(20)
    before = state_rows(settled)
    asked = rebuild(settled.space, settled.policy)
    assert asked.returncode == 2
    words = ("no offsets", "every alert", "every kill", "--publish-again")
    assert [word for word in words if word not in asked.stderr] == []
    assert state_rows(settled) == before
    meant = rebuild(settled.space, settled.policy, "--publish-again")
    assert meant.returncode == 0, meant.stderr
    with settled.start() as worker:
        worker.wait_applied(settled.ends)
        assert worker.stop() == 0, worker.tail()
    assert len(read_all(settled.space.bootstrap, settled.space.name("alerts.v1"))) == 2 * alerts
    check_state(settled.space, POLICY, "published again")


def test_a_gap_in_the_input_is_passed_only_when_told_to(settled: Settled) -> None:
    """Row 30: with the setting it goes on behind the gap, and logs which range is missing."""
    expire(settled)
    with settled.start(ACCEPT_INPUT_GAP="true") as worker:
        worker.wait_applied(settled.ends)
        [gap] = worker.said("input is missing")
        assert f"to {settled.ends[settled.partition] - 1} was deleted" in gap["gap"]
        assert worker.stop() == 0, worker.tail()


@pytest.mark.parametrize("offset", ["back", "ahead"])
def test_offsets_set_by_hand_are_not_believed(settled: Settled, offset: str) -> None:
    """Row 32: the fence says where to go on; the group's offset is only warned about."""
    settled.feed()
    place = settled.ends[settled.partition] if offset == "ahead" else 0
    group = f"{settled.space.prefix}spendfuse-engine"
    moved = ConsumerGroupTopicPartitions(
        group, [TopicPartition(settled.space.name("usage.v1"), settled.partition, place)]
    )
    # The static member of the worker that ended stays in the group until its session is over.
    wait_until(lambda: settled.moves_group(moved), 30, "the group is empty and its offset moved")
    with settled.start() as worker:
        worker.wait_applied(settled.ends)
        assert len(worker.said("the group's offset differs from the fence, which rules")) == 1, worker.tail()
        assert worker.stop() == 0, worker.tail()
    check_state(settled.space, POLICY, f"offset set {offset}")
