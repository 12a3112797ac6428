"""Workers that come, go, stand still and come back: nothing is lost or doubled, and what is wrong is said.

Numbers of rows are those of the fault matrix.
"""

import socket
from collections.abc import Iterator, Mapping

import pytest
from confluent_kafka import Consumer, TopicPartition

from infra.kafka.local import free_ports
from models.engine import COMPILED
from tests.integration.proof import (
    Load,
    check_all,
    flowing,
    small_load,
)
from tests.support.kafka import TopicSpace, read_all, wait_until
from tests.support.load import Flow, Shape
from tests.support.worker_process import WorkerProcess

SEED = 20_261_124
RATE_PER_S = 300
TAKEOVER_S = 90


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """3,000 records: ten seconds of flow."""
    return small_load(tmp_path_factory.mktemp("load"), Shape(3000, SEED, tenants=8, history_hours=20, busy_hours=3))


@pytest.fixture
def flow(kafka_topics: TopicSpace, load: Load) -> Iterator[Flow]:
    """The load, flowing."""
    with flowing(kafka_topics, load, RATE_PER_S) as flow:
        yield flow


def start(space: TopicSpace, load: Load, slot: str = "0", **settings: object) -> WorkerProcess:
    return WorkerProcess(space.bootstrap, space.prefix, load.policy, slot=slot, **settings)


def owned(worker: WorkerProcess) -> int:
    """How many partitions a worker says it has."""
    return int(worker.metric("spendfuse_partitions").get("", 0))


def wait_shared(first: WorkerProcess, second: WorkerProcess) -> None:
    first.wait_for(lambda: owned(first) == 2 and owned(second) == 2, TAKEOVER_S, "two partitions for each worker")


def wait_all_applied(workers: tuple[WorkerProcess, ...], ends: Mapping[int, int]) -> None:
    """Wait until, taken together, the workers have committed everything up to these offsets."""

    def reached() -> bool:
        applied = [worker.applied() for worker in workers]
        return all(max(each.get(partition, -1) for each in applied) >= end for partition, end in ends.items())

    workers[-1].wait_for(reached, TAKEOVER_S, f"applied up to {dict(ends)} by all workers together")


def group_offsets(space: TopicSpace) -> dict[int, int]:
    """Partition -> offset of usage.v1 at which the workers' group would go on; negative for none."""
    consumer = Consumer({"bootstrap.servers": space.bootstrap, "group.id": f"{space.prefix}spendfuse-engine"})
    try:
        asked = [TopicPartition(space.name("usage.v1"), number) for number in range(space.partitions)]
        return {each.partition: each.offset for each in consumer.committed(asked, 15)}
    finally:
        consumer.close()


def test_asked_to_end_it_commits_and_leaves(kafka_topics: TopicSpace, load: Load, flow: Flow) -> None:
    """Row 10: SIGTERM in the middle of the flow ends it with code 0, whoever is connected to its pages; the next one
    goes on behind its last record.
    """
    with start(kafka_topics, load) as first:
        wait_until(first.numbers, 60, "its pages are served")
        idle = socket.create_connection(("127.0.0.1", first.port))
        wait_until(lambda: sum(first.applied().values()) > 500, 60, "some records are applied")
        assert first.metric("spendfuse_compiled") == {"": float(COMPILED)}, "it runs another engine than these tests"
        assert first.stop(timeout_s=10) == 0, first.tail()
    idle.close()
    stopped_at = {partition: offset for partition, offset in group_offsets(kafka_topics).items() if offset >= 0}
    with start(kafka_topics, load) as second:
        flow.finish()
        second.wait_applied(flow.ends)
        taken = sum(
            sum(second.metric(f"spendfuse_{name}_total").values()) for name in ("events", "duplicates", "dead_letters")
        )
        assert second.stop() == 0, second.tail()
    assert taken == len(load.log) - sum(stopped_at.values()), "records were taken in twice"
    check_all(kafka_topics, load, flow, "SIGTERM")


def test_two_workers_share_and_the_one_left_takes_over(kafka_topics: TopicSpace, load: Load, flow: Flow) -> None:
    """Rows 8 and 15: partitions move to a worker that joins, and from one that dies with a transaction open."""
    with start(kafka_topics, load, slot="a") as first, start(kafka_topics, load, slot="b") as second:
        wait_shared(first, second)
        first.kill()
        flow.finish()
        wait_all_applied((second,), flow.ends)
        assert owned(second) == kafka_topics.partitions
        assert second.stop() == 0, second.tail()
    check_all(kafka_topics, load, flow, "take-over")


def test_a_transaction_that_a_dead_worker_left_open_holds_nobody_up(
    kafka_topics: TopicSpace, load: Load, flow: Flow
) -> None:
    """Rows 5 and 8: the dead worker's offsets are pending when another takes its partitions over; it waits until the
    broker has given the transaction up, and goes on.
    """
    soon_dead = {"TRANSACTION_TIMEOUT_MS": 4000, "BATCH_RECORDS": 40}  # so many passes are made however slow it is
    with (
        start(kafka_topics, load, slot="a", KILL_AT="offsets_sent:10", **soon_dead) as first,
        start(kafka_topics, load, slot="b") as second,
    ):
        assert first.wait_exit() == -9, first.tail()
        flow.finish()
        wait_all_applied((second,), flow.ends)
        assert second.stop() == 0, second.tail()
    check_all(kafka_topics, load, flow, "transaction left open")


def test_a_worker_that_comes_back_from_the_dead_writes_nothing(
    kafka_topics: TopicSpace, load: Load, flow: Flow
) -> None:
    """Row 11: frozen beyond its session, its partitions are another's when it wakes; its transaction is rejected, it
    drops its state and joins again.
    """
    with start(kafka_topics, load, slot="a") as zombie, start(kafka_topics, load, slot="b") as other:
        wait_shared(zombie, other)
        zombie.freeze()
        other.wait_for(lambda: owned(other) == kafka_topics.partitions, TAKEOVER_S, "the other has all partitions")
        zombie.thaw()
        flow.finish()
        wait_shared(zombie, other)
        wait_all_applied((zombie, other), flow.ends)
        assert (zombie.stop(), other.stop()) == (0, 0), zombie.tail()
    check_all(kafka_topics, load, flow, "zombie")


def test_a_pause_shorter_than_the_session_changes_nothing(kafka_topics: TopicSpace, load: Load, flow: Flow) -> None:
    """Time that passes while the worker stands still must not overtake records that wait for it."""
    with start(kafka_topics, load, SESSION_TIMEOUT_MS=20_000, TRANSACTION_TIMEOUT_MS=20_000) as worker:
        wait_until(lambda: sum(worker.applied().values()) > 300, 60, "some records are applied")
        worker.freeze()
        flow.finish()
        worker.thaw()
        worker.wait_applied(flow.ends)
        assert worker.stop() == 0, worker.tail()
    check_all(kafka_topics, load, flow, "pause")


def test_of_two_workers_in_one_slot_the_newer_survives(kafka_topics: TopicSpace, load: Load, flow: Flow) -> None:
    """Row 12: the older one is fenced off, ends, and says why."""
    with start(kafka_topics, load) as older:
        wait_until(lambda: len(older.applied()) > 0, 60, "the older one has committed")
        with start(kafka_topics, load) as newer:
            newer.wait_said("worker started")
            assert older.wait_exit() == 1, older.tail()
            assert "another worker has taken slot '0'" in older.text
            flow.finish()
            newer.wait_applied(flow.ends)
            assert newer.stop() == 0, newer.tail()
    check_all(kafka_topics, load, flow, "one slot")


def test_what_an_aborted_transaction_held_is_never_seen(kafka_topics: TopicSpace, load: Load) -> None:
    """Row 53: alerts and commands of a transaction that was not committed stand in the log, and no reader who asks
    for committed records is handed one.
    """
    flow = Flow(kafka_topics.bootstrap, kafka_topics.name("usage.v1"), load.log)
    flow.start()
    flow.finish()
    with start(kafka_topics, load, KILL_AT="rows_sent:2", BATCH_RECORDS=1500) as worker:
        assert worker.wait_exit() == -9, worker.tail()
    alerts = kafka_topics.name("alerts.v1")
    with start(kafka_topics, load) as worker:
        worker.wait_applied(flow.ends)
        assert worker.stop() == 0, worker.tail()
    written = read_all(kafka_topics.bootstrap, alerts, isolation="read_uncommitted")
    assert len(written) > len(read_all(kafka_topics.bootstrap, alerts)), "nothing was aborted: the test proves nothing"
    check_all(kafka_topics, load, flow, "aborted")


def test_without_topics_or_broker_it_ends_and_says_so(kafka_topics: TopicSpace, load: Load) -> None:
    """A worker that cannot begin ends with code 4 and names the command or the setting that helps."""
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    with (
        WorkerProcess(nobody, "", load.policy) as alone,
        WorkerProcess(kafka_topics.bootstrap, f"{kafka_topics.prefix}none.", load.policy) as lost,
    ):
        assert (lost.wait_exit(), alone.wait_exit()) == (4, 4)
        assert f"{kafka_topics.prefix}none.usage.v1" in lost.text
        assert "python -m streams topics apply" in lost.text
        assert f"no broker answers at {nobody}" in alone.text
        assert "SPENDFUSE_KAFKA_BOOTSTRAP" in alone.text
        assert "Traceback" not in alone.text + lost.text
