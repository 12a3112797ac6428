"""The same worker on the embedded broker, which isolates nothing: state is right, outputs come at least once."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from infra.kafka.embedded import EmbeddedBroker
from tests.integration.proof import check_state, expect, is_about_disobedience, is_about_unreadable
from tests.support.kafka import TopicSpace, is_told_once, read_all
from tests.support.load import POLICY, Flow, Shape, usage_log, write_events
from tests.support.worker_process import WorkerProcess

SEED = 20_261_126
PREFIX = "mock."


def is_the_workers(value: bytes) -> bool:
    """Whether an alert tells of what no backtest can know."""
    return is_about_unreadable(value) or is_about_disobedience(value)


@pytest.mark.parametrize("stage", ["taken:150", "effects_sent:12", "rows_sent:6", "committed:6"])
def test_deaths_on_the_embedded_broker(embedded: EmbeddedBroker, tmp_path: Path, stage: str) -> None:
    """Rows 1 to 4: after deaths at one stage, every alert of the backtest is there, no other one is, and the rows are
    those of a fresh engine over the log.
    """
    space = TopicSpace(embedded.bootstrap, PREFIX, 4)
    embedded.create_topics(PREFIX, space.partitions)
    log = usage_log(Shape(1000, SEED, tenants=8, history_hours=10, busy_hours=1))
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    expected = expect(POLICY, write_events(log, tmp_path / "events.jsonl"))
    flow = Flow(space.bootstrap, space.name("usage.v1"), log, rate_per_s=400)
    flow.start()
    # Static members that die are waited for twice the session here.
    settings: dict[str, Any] = {"SESSION_TIMEOUT_MS": 3000, "BATCH_RECORDS": 40}
    for _ in range(2):
        with WorkerProcess(space.bootstrap, PREFIX, policy, KILL_AT=stage, **settings) as worker:
            assert worker.wait_exit() == -9, worker.tail()
    with WorkerProcess(space.bootstrap, PREFIX, policy, **settings) as worker:
        flow.finish()
        worker.wait_applied(flow.ends)
        assert worker.stop() == 0, worker.tail()
    for topic, name in (("alerts.v1", "alert_id"), ("control.v1", "command_id")):
        due = [value for where, _, value in expected.facts if where == topic]
        wanted = {json.loads(value)[name]: value for value in due if not is_about_disobedience(value)}
        written = [one.value or b"" for one in read_all(space.bootstrap, space.name(topic)) if is_told_once(one)]
        found = {json.loads(value)[name]: value for value in written if not is_the_workers(value)}
        assert found == wanted, f"{topic} after deaths at {stage}: {Counter(map(len, (found, wanted)))}"
    check_state(space, POLICY, f"deaths at {stage}")
