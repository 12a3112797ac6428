"""A worker that reads its state back has given the former one back before: at every abort, at every rebalance."""

import gc
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

from infra.kafka.local import LocalKafka
from models.engine import Engine
from models.state.tenant import Tenant
from schemas.codec import encode
from streams.clock import wall_ms
from streams.kafka.client import Admin
from streams.kafka.state_reader import StateReader
from streams.kafka.topics import apply
from streams.process.broker_watch import BrokerWatch
from streams.process.metrics import Metrics
from streams.settings import Settings
from streams.worker import worker as worker_module
from streams.worker.worker import Worker
from streams.worker_group import INPUTS
from tests.integration.proof import flowing, small_load
from tests.support.kafka import Record, TopicSpace, fresh_prefix, produce, wait_until
from tests.support.leftovers import living
from tests.support.load import Shape
from tests.support.messages import llm_call

SEED = 20_261_127
TENANTS = 20
ABORTS = 4
VISITS = 3
"""Of a member that joins the group and leaves it: two rebalances each."""
RATE_PER_S = 100
WAIT_S = 60


class NoCollector:
    """In the place of `gc`: what goes, goes by reference count."""

    disable = staticmethod(gc.disable)

    @staticmethod
    def collect() -> int:
        return 0


class Working:
    """A worker in a thread of this process, so that its objects can be counted."""

    def __init__(self, space: TopicSpace, metrics: Metrics, ended: "Future[None]") -> None:
        self._space = space
        self._metrics = metrics
        self._ended = ended
        self._events = 0

    def number(self, name: str) -> float:
        """A figure of its metrics page; the sum over its labels."""
        samples = [one for metric in self._metrics.registry.collect() for one in metric.samples if one.name == name]
        return sum(one.value for one in samples)

    def wait(self, done: Any, what: str) -> None:
        """Wait until `done` holds. Raises what ended the worker, if it has ended."""

        def asked() -> bool:
            if self._ended.done():
                self._ended.result()
            return bool(done())

        wait_until(asked, WAIT_S, what)

    def spend(self) -> None:
        """A call of every tenant, counted and committed."""
        before = self.number("spendfuse_events_total")
        self._events += 1
        calls = [
            llm_call(wall_ms(), tenant_id=f"tenant-{number}", event_id=f"{self._events}") for number in range(TENANTS)
        ]
        records = [Record(encode(call), call.tenant_id.encode()) for call in calls]
        produce(self._space.bootstrap, self._space.name("usage.v1"), records)
        self.wait(lambda: self.number("spendfuse_events_total") >= before + TENANTS, "the calls are counted")

    def counted(self) -> tuple[int, int]:
        """Engines and tenants in memory."""
        return living(Engine), living(Tenant)


@contextmanager
def working(space: TopicSpace, policy: Path, call_timeout_s: int = 15) -> Iterator[Working]:
    settings = Settings(
        kafka_bootstrap=space.bootstrap, prefix=space.prefix, slot="0", policy=policy, watchdog_s=0,
        session_timeout_ms=6000, call_timeout_s=call_timeout_s,
    )  # fmt: skip
    metrics = Metrics()
    with BrokerWatch(settings) as broker, ThreadPoolExecutor(1) as pool:
        worker = Worker(settings, metrics, broker)
        try:
            yield Working(space, metrics, pool.submit(worker.run))
        finally:
            worker.stop()
            pool.shutdown()
            gc.enable()  # the worker has it off


def visit(space: TopicSpace, working: Working) -> None:
    """Another member joins the worker's group, takes its share and leaves."""
    guest = Consumer(
        {
            "bootstrap.servers": space.bootstrap,
            "group.id": f"{space.prefix}spendfuse-engine",
            "partition.assignment.strategy": "range",
            "enable.auto.commit": False,
        }
    )
    guest.subscribe([space.name(topic) for topic in INPUTS])
    try:
        working.wait(lambda: guest.poll(0.1) is not None or guest.assignment(), "the guest has its share")
        working.wait(lambda: 0 < working.number("spendfuse_partitions") < space.partitions, "the worker has the rest")
    finally:
        guest.close()
    working.wait(lambda: working.number("spendfuse_partitions") == space.partitions, "the worker has all again")


def engines_at_reading(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many engines there were whenever the changelog was read from now on; the worker's collector is away."""
    found: list[int] = []
    read = StateReader.read

    def counted_read(reader: StateReader, partitions: Any) -> Any:
        found.append(living(Engine))
        return read(reader, partitions)

    monkeypatch.setattr(StateReader, "read", counted_read)
    monkeypatch.setattr(worker_module, "gc", NoCollector)
    return found


def test_what_aborts_and_rebalances_drop_is_gone(
    kafka_topics: TopicSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After four aborts and six rebalances there is one engine for each partition; whenever the changelog was read,
    there was none, and no collector was needed for that. Before, each left the former state behind for good: 87 to
    112 MB for 100,000 runs.
    """
    at_reading = engines_at_reading(monkeypatch)
    policy = tmp_path / "policy.toml"
    policy.write_text('version = "1"\n[[cap]]\nname = "c"\nlimit_usd = 1\n')
    gc.collect()
    others = living(Engine), living(Tenant)
    with working(kafka_topics, policy) as worker:
        worker.wait(lambda: worker.number("spendfuse_partitions") == kafka_topics.partitions, "it has its partitions")
        worker.spend()
        first = worker.counted()
        for number in range(ABORTS):
            rival = Producer(
                {"bootstrap.servers": kafka_topics.bootstrap, "transactional.id": f"{kafka_topics.prefix}engine-0"}
            )
            rival.init_transactions(WAIT_S)
            worker.spend()
            assert worker.number("spendfuse_aborts_total") == number + 1
            worker.wait(lambda: worker.counted() == first, f"{first} engines and tenants")
        for _ in range(VISITS):
            visit(kafka_topics, worker)
            worker.spend()
            worker.wait(lambda: worker.counted() == first, f"{first} engines and tenants")
    assert (first[0] - others[0], first[1] - others[1]) == (kafka_topics.partitions, TENANTS)
    assert len(at_reading) >= 1 + ABORTS + 2 * VISITS
    assert set(at_reading) == {others[0]}, "the former state is held while the next one is read"


def test_what_an_outage_takes_away_is_gone(
    own_kafka: LocalKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker stands still in the middle of the flow, until a new producer could not be had: after it there is one
    engine for each partition, and one producer. Before, each outage left the engines, the producer and its threads.
    """
    space = TopicSpace(own_kafka.bootstrap, fresh_prefix(), 2)
    apply(Admin(Settings(kafka_bootstrap=space.bootstrap)), space.prefix, space.partitions, replication=1)
    load = small_load(tmp_path, Shape(1500, SEED, tenants=8, history_hours=20, busy_hours=3))
    gc.collect()
    others = living(Engine)
    at_reading = engines_at_reading(monkeypatch)
    with working(space, load.policy, call_timeout_s=3) as worker, flowing(space, load, RATE_PER_S) as flow:
        worker.wait(lambda: worker.number("spendfuse_events_total") > 100, "events are counted")
        producers = living(Producer)
        own_kafka.pause()
        worker.wait(lambda: "there is no new producer yet" in caplog.text, "a producer cannot be had")
        own_kafka.unpause()
        flow.finish()
        worker.wait(lambda: worker.number("spendfuse_events_total") >= 1000, "it goes on")
        worker.wait(lambda: living(Engine) == others + space.partitions, "only its engines")
        worker.wait(lambda: living(Producer) <= producers, "the lost producers are gone")
    assert set(at_reading) == {others}, "the former state is held while the next one is read"
