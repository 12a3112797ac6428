"""A worker that lives works on what nobody works on, whatever the group believes."""

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from infra.kafka.jars import KafkaUnavailableError
from infra.kafka.local import LocalKafka
from schemas.codec import encode
from streams.clock import wall_ms
from streams.kafka.client import Admin
from streams.kafka.partitioner import partition_of
from streams.kafka.topics import apply
from streams.process.broker_watch import BrokerWatch
from streams.process.metrics import Metrics
from streams.settings import Settings
from streams.worker import worker as worker_module
from streams.worker.worker import Worker
from streams.worker_group import GROUP, INPUTS, member_name, new_member
from tests.conftest import do_without
from tests.support.kafka import Record, TopicSpace, fresh_prefix, produce, wait_until
from tests.support.messages import llm_call
from tests.support.worker_process import WorkerProcess

PARTITIONS = 3
SESSION_MS = 2000
QUICK: dict[str, Any] = {"SESSION_TIMEOUT_MS": SESSION_MS, "UNHEALTHY_S": 2}
"""So that what takes minutes takes seconds; the broker must allow such a session."""


@pytest.fixture(scope="module")
def allowing() -> Iterator[LocalKafka]:
    """A broker that allows short sessions."""
    try:
        broker = LocalKafka({"group.min.session.timeout.ms": "1000"})
    except KafkaUnavailableError as error:
        do_without(str(error))
    yield broker
    broker.stop()


@pytest.fixture
def space(allowing: LocalKafka) -> TopicSpace:
    """All topics."""
    made = TopicSpace(allowing.bootstrap, fresh_prefix(), PARTITIONS)
    apply(Admin(Settings(kafka_bootstrap=made.bootstrap)), made.prefix, PARTITIONS, replication=1)
    return made


TENANTS = [
    next(name for name in map(str, range(99)) if partition_of(name.encode(), PARTITIONS) == number)
    for number in range(PARTITIONS)
]
"""One in each partition."""


def spend(space: TopicSpace) -> dict[int, int]:
    """A call of each tenant; returns where it stands, by partition."""
    calls = [llm_call(wall_ms(), tenant_id=tenant, event_id=f"of-{tenant}") for tenant in TENANTS]
    records = [Record(encode(call), call.tenant_id.encode()) for call in calls]
    written = produce(space.bootstrap, space.name("usage.v1"), records)
    return {record.partition or 0: record.offset or 0 for record in written}


def test_a_member_that_is_no_more_keeps_nothing(space: TopicSpace) -> None:
    """A second worker has ended, and the group never learns: it counts on as a member, with a partition of which
    records wait. The living worker takes its place, and then its partition; the metrics say for how long nobody worked.
    """
    settings = Settings(kafka_bootstrap=space.bootstrap, prefix=space.prefix, slot="1", session_timeout_ms=SESSION_MS)
    with WorkerProcess(space.bootstrap, space.prefix, None, **QUICK) as worker:
        worker.wait_said("state restored")
        ghost = new_member(settings)
        faults: set[int] = set()
        ghost.subscribe([space.name(topic) for topic in INPUTS])

        def is_fenced() -> bool:
            message = ghost.poll(0.1)  # its client keeps the place, as a coordinator does that never lets it go
            if message is not None and (error := message.error()) is not None:
                faults.add(error.code())
            return KafkaError._FATAL in faults

        wait_until(lambda: is_fenced() or ghost.assignment(), 30, "the ghost owns its share")
        ends = spend(space)
        waited: list[float] = []

        def replaced() -> bool:
            waited.extend(worker.metric("spendfuse_unattended_seconds").values())
            return is_fenced()

        worker.wait_for(replaced, 60, "the ghost's place is taken")
        ghost.close()
        worker.wait_applied(ends)
        assert max(waited) > 0
        worker.wait_for(lambda: worker.metric("spendfuse_unattended_seconds") == {"": 0.0}, 30, "all is attended to")
        [line] = worker.said("nobody works on partitions")
        assert line["repair"] == f"replaced {member_name(settings)}"
        assert worker.stop() == 0


class Silent(Consumer):
    """A client that has lost its coordinator for good: it reads two partitions, and the group knows nothing of it."""

    def subscribe(self, topics: list[str], on_assign: Any = None, **_: Any) -> None:  # type: ignore[override]
        """Go on with what it has."""
        on_assign(self, [TopicPartition(topic, number) for topic in topics for number in (0, 1)])


def test_a_client_that_the_group_has_forgotten_joins_anew(
    space: TopicSpace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The worker's client goes on reading two partitions of a group in which it is no member: all is well with these,
    and the third is nobody's. The worker notices, joins anew, and has them all.
    """
    policy = tmp_path / "policy.toml"
    policy.write_text('version = "v1"\n', encoding="utf-8")
    settings = Settings(
        kafka_bootstrap=space.bootstrap, prefix=space.prefix, slot="0", policy=policy, watchdog_s=0,
        session_timeout_ms=SESSION_MS, unhealthy_s=2,
    )  # fmt: skip
    monkeypatch.setenv("SPENDFUSE_KAFKA_BOOTSTRAP", space.bootstrap)  # for what it starts to see to it
    monkeypatch.setenv("SPENDFUSE_PREFIX", space.prefix)
    clients: list[str] = []

    def client(given: Settings) -> Consumer:
        clients.append("silent" if not clients else "sound")
        if clients[-1] == "sound":
            return new_member(given)
        return Silent(given.kafka() | {"group.id": given.group(GROUP), "enable.auto.commit": False})

    monkeypatch.setattr(worker_module, "new_member", client)
    metrics = Metrics()
    with BrokerWatch(settings) as broker, ThreadPoolExecutor(1) as pool:
        worker = Worker(settings, metrics, broker)
        ended = pool.submit(worker.run)
        try:
            ends = spend(space)
            wait_until(lambda: ended.done() or applied(metrics) == ends, 60, "all partitions are counted")
        finally:
            worker.stop()
            gc.enable()  # the worker has it off
        ended.result(60)
    assert clients == ["silent", "sound"]
    assert worker.fault() is None


def applied(metrics: Metrics) -> dict[int, int]:
    """Partition -> offset of its last record whose effects are committed."""
    [metric] = metrics.applied.collect()
    return {int(sample.labels["partition"]): int(sample.value) for sample in metric.samples}
