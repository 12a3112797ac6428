"""When a partition may say that it is alive, asked of a broker that answers."""

from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_INVALID, Producer, TopicPartition

from infra.kafka.embedded import EmbeddedBroker
from models.rules.policy import default_policy
from schemas.alert import WATCHDOG, Alert
from streams.clock import BrokerClock, wall_ms
from streams.kafka.client import Admin
from streams.process.metrics import Metrics
from streams.settings import Settings
from streams.worker.dead_mans_switch import DeadMansSwitch
from streams.worker.partition import Partition
from tests.support.kafka import wait_until

RECORDS = 3


@pytest.fixture
def input_end(embedded: EmbeddedBroker) -> str:
    """A broker with one partition of usage.v1 that ends at offset 3."""
    embedded.create_topic("usage.v1", 1)
    producer = Producer({"bootstrap.servers": embedded.bootstrap})
    for _ in range(RECORDS):
        producer.produce("usage.v1", b"{}", b"acme", 0)
    assert producer.flush(10) == 0
    return embedded.bootstrap


def beating(bootstrap: str, partition: Partition, watchdog_s: int) -> Callable[[], Alert | None]:
    """Ticks, and gives the beat that the partition would send."""
    switch = DeadMansSwitch(Settings(kafka_bootstrap=bootstrap, watchdog_s=watchdog_s), Metrics(), BrokerClock())

    def tick() -> Alert | None:
        switch.tick({partition.number: partition})
        return partition.beat

    return tick


def test_a_partition_beats_once_it_has_come_to_the_end(input_end: str) -> None:
    """Not while something is unread that stood there when it was asked; then once an interval, and for that long."""
    partition = Partition(0, 1, default_policy(), {}, None)
    tick = beating(input_end, partition, watchdog_s=1)
    partition.usage_offset = RECORDS - 2
    until_ms = wall_ms() + 1500
    wait_until(lambda: tick() is not None or wall_ms() > until_ms, 10, "a second question")
    assert partition.beat is None
    partition.usage_offset = RECORDS - 1
    wait_until(lambda: tick() is not None, 10, "a beat")
    first = partition.beat
    assert first is not None
    assert (first.detector, first.severity, first.scope["partition"]) == (WATCHDOG, "info", "0")
    assert first.window_end_ms == first.ts_ms + 2000
    partition.committed()
    wait_until(lambda: tick() is not None, 10, "another beat")
    assert partition.beat is not None
    assert partition.beat.alert_id != first.alert_id
    assert partition.beat.incident_id == first.incident_id


def test_markers_behind_the_last_record_count_as_read(input_end: str) -> None:
    """A transaction's marker is no record: what tells of it is only where reading came to the end."""
    partition = Partition(0, 1, default_policy(), {}, None)
    tick = beating(input_end, partition, watchdog_s=1)
    partition.usage_offset = RECORDS - 2
    partition.end_reached(RECORDS)
    wait_until(lambda: tick() is not None, 10, "a beat")


def test_it_can_be_switched_off(input_end: str) -> None:
    """0 seconds is never."""
    partition = Partition(0, 1, default_policy(), {}, None)
    partition.end_reached(RECORDS)
    tick = beating(input_end, partition, watchdog_s=0)
    until_ms = wall_ms() + 500
    wait_until(lambda: tick() is not None or wall_ms() > until_ms, 10, "half a second")
    assert partition.beat is None


def test_what_no_broker_has_said_is_no_end_that_was_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that goes away leaves an offset that is none, without an error: nobody is told that all is well."""
    asked: list[int] = []

    def unanswered(_self: Admin, places: dict[TopicPartition, Any], **_: Any) -> dict[TopicPartition, "Future[Any]"]:
        futures = {each: Future[Any]() for each in places}
        for future in futures.values():
            future.set_result(SimpleNamespace(offset=OFFSET_INVALID))
            asked.append(1)
        return futures

    monkeypatch.setattr(Admin, "list_offsets", unanswered)
    partition = Partition(0, 1, default_policy(), {}, None)
    partition.usage_offset = RECORDS
    beating("127.0.0.1:1", partition, watchdog_s=60)()
    assert asked
    assert partition.beat is None
