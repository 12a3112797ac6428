"""`rebuild` from the embedded broker: what it reads, and what it does not wait for."""

from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from pydantic import SecretStr

from infra.kafka.embedded import EmbeddedBroker
from streams.kafka.client import make_consumer
from streams.settings import Settings
from streams.tools.rebuild.in_place import run_rebuild
from streams.worker.generations import reading
from streams.worker_group import GROUP
from tests.integration.proof import check_state
from tests.support.kafka import TopicSpace
from tests.support.load import POLICY, Flow, Shape, usage_log
from tests.support.worker_process import OPERATOR_KEY

SEED = 20_261_127


@pytest.mark.timeout(100)
def test_a_partition_that_is_read_to_its_end_keeps_nobody_waiting(
    embedded: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it waits for records that are missing, it does not where all are there."""
    monkeypatch.setattr(reading, "SILENCE_S", 1000)
    space = TopicSpace(embedded.bootstrap, "", 2)
    embedded.create_topics(space.prefix, space.partitions)
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    flow = Flow(space.bootstrap, "usage.v1", usage_log(Shape(400, SEED, tenants=6, history_hours=3, busy_hours=1)))
    flow.start()
    flow.finish()
    settings = Settings(kafka_bootstrap=space.bootstrap, policy=policy, operator_key=SecretStr(OPERATOR_KEY))
    counted = [TopicPartition("usage.v1", number, end + 1) for number, end in flow.ends.items()]
    with closing(make_consumer(settings, GROUP)) as worker:
        worker.commit(offsets=counted, asynchronous=False)
    assert run_rebuild(settings) == 0
    check_state(space, POLICY, f"seed {SEED}, rebuilt")
