"""Batches that cannot be committed are seen: in health, in the lag, and in the log. Rows are of the fault matrix."""

from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # offered, but not exported
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from schemas.codec import encode
from streams.clock import wall_ms
from streams.kafka.client import Admin
from streams.kafka.topics import apply
from streams.settings import Settings
from tests.integration.proof import Load, check_all, flowing, small_load
from tests.support.kafka import Record, TopicSpace, produce
from tests.support.load import Shape
from tests.support.messages import llm_call
from tests.support.worker_process import WorkerProcess

SEED = 20_261_127


@pytest.fixture
def load(tmp_path: Path) -> Load:
    return small_load(tmp_path, Shape(600, SEED, tenants=8, history_hours=10, busy_hours=1))


def set_most_bytes(space: TopicSpace, topic: str, most_bytes: int) -> None:
    """The size that a record of a topic may have."""
    entry = ConfigEntry("max.message.bytes", str(most_bytes), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, space.name(topic), incremental_configs=[entry])
    admin = Admin(Settings(kafka_bootstrap=space.bootstrap))
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(15)


def lag(worker: WorkerProcess) -> float:
    """Records that the worker has not counted."""
    return sum(worker.metric("spendfuse_lag_records").values())


def test_a_worker_that_cannot_commit_is_not_well(kafka_topics: TopicSpace, load: Load) -> None:
    """Row 21: rows that the broker refuses abort every batch. Health is red and says why and which row it is, what is
    read and not committed is lag, and nothing is visible. It is tried a few times a minute; once the broker takes them
    it goes on, and everything is there once.
    """
    set_most_bytes(kafka_topics, "state.v1", 100)
    with (
        flowing(kafka_topics, load, 400) as flow,
        WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, load.policy, UNHEALTHY_S=2) as worker,
    ):
        flow.finish()
        worker.wait_for(lambda: "nothing could be committed for" in worker.health, 60, "health is red")
        # Where the refusal comes before the offsets are sent, that attempt ends with the client's own words.
        worker.wait_for(lambda: "The largest record of the batch is the row b'[" in worker.health, 60, "it is named")
        worker.wait_for(lambda: lag(worker) == len(load.log), 60, "all of it is lag")
        assert sum(worker.metric("spendfuse_batches_total").values()) == 0
        assert sum(worker.metric("spendfuse_held_records").values()) == 0
        set_most_bytes(kafka_topics, "state.v1", 4 * 1024 * 1024)
        worker.wait_applied(flow.ends)
        worker.wait_for(lambda: worker.health == "ok", 60, "health is green again")
        assert worker.stop() == 0, worker.tail()
    check_all(kafka_topics, load, flow, "could not commit")


CAP = """
version = "cap"
[[cap]]
name = "run-cost"
limit_usd = 1.0
at_limit = "kill"
mode = "enforce"
"""


def test_a_missing_topic_is_named(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """All that follows from a batch is written or nothing: with one topic missing nobody is stopped, and the client
    says that records of some other one timed out. Health and log name the one, and what makes it again.
    """
    settings = Settings(kafka_bootstrap=kafka_topics.bootstrap)
    admin, control = Admin(settings), kafka_topics.name("control.v1")
    call = Record(encode(llm_call(wall_ms(), tenant_id="acme", run_id="r1", cost_nanousd=2_000_000_000)), b"acme")
    policy = tmp_path / "cap.toml"
    quick: dict[str, Any] = {"UNHEALTHY_S": 2, "CALL_TIMEOUT_S": 5}
    policy.write_text(CAP, encoding="utf-8")
    with WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy, **quick) as worker:
        worker.wait_said("state restored")
        admin.delete_topics([control], request_timeout=10)[control].result(20)
        [sent] = produce(kafka_topics.bootstrap, kafka_topics.name("usage.v1"), [call])
        worker.wait_for(lambda: f"topics are missing: {control}: python" in worker.health, 60, "health names it")
        apply(admin, kafka_topics.prefix, kafka_topics.partitions, 1)
        worker.wait_applied({sent.partition or 0: sent.offset or 0})
        assert worker.stop() == 0, worker.tail()
