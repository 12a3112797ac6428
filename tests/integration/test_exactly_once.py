"""The main promise, on a real Kafka: whatever moment the worker dies at, every alert and command comes out once."""

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.integration.proof import check_dead_letters, check_published, check_state, check_totals, expect
from tests.integration.recount import check_recount
from tests.integration.recount_runs import check_runs
from tests.support.kafka import TopicSpace, wait_until
from tests.support.load import POLICY, Flow, Shape, usage_log, write_events
from tests.support.worker_process import WorkerProcess

EVENTS = int(os.environ.get("SPENDFUSE_TEST_EVENTS", "25000"))
"""Each is judged by worker, backtest, a fresh engine and a recount: `make exactly-once` has eight times as many."""
SEED = 20_261_122
KILLS = 12
RATE_PER_S = 5000


@pytest.mark.timeout(300 + EVENTS // 100)
def test_nothing_is_lost_or_doubled_by_a_dozen_kills(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """While events flow, the worker is killed at random moments and started again each time. In the end a
    read_committed reader has the alerts and commands of a backtest over the same events, byte for byte and each once;
    the last rollups and records of runs and the bad records' dead letters likewise. Levels, kills and pauses of budgets
    and caps, what runs come to and what hours are broken down to are those of a recount that shares nothing with the
    engine. The state equals that of a fresh engine over the log, its digest
    one worked out from the rows, its totals a plain recount.
    """
    rng = Random(SEED)
    history_hours = 168 if EVENTS >= 20_000 else 24
    log = usage_log(Shape(EVENTS, SEED, history_hours=history_hours))
    events = write_events(log, tmp_path / "events.jsonl")
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    flow = Flow(kafka_topics.bootstrap, kafka_topics.name("usage.v1"), log, rate_per_s=min(RATE_PER_S, EVENTS / 30))
    moments = sorted(rng.randrange(len(log) // 50, len(log)) for _ in range(KILLS))

    def start() -> WorkerProcess:
        return WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy)

    flow.start()
    try:
        for moment in moments:
            with start() as worker:
                wait_until(_sent(flow, moment), 120, f"record {moment} of the log is sent")
                assert worker.running, f"seed {SEED}: the worker ended by itself:\n{worker.tail()}"
                worker.kill()
        with start() as worker:
            flow.finish()
            worker.wait_applied(flow.ends, timeout_s=200 + EVENTS / 250)
            assert worker.stop() == 0, worker.tail()
    finally:
        flow.abandon()
    assert set(flow.ends) == set(range(kafka_topics.partitions)), "the load leaves a partition empty"
    told = f"seed {SEED}, {len(log)} records, killed when {moments} were sent"
    expected = expect(POLICY, events)
    assert expected.facts.total() > 100, "the load leads to too little to prove anything"
    check_published(kafka_topics, expected, told)
    check_dead_letters(kafka_topics, flow, told)
    check_totals(kafka_topics, events, told)
    check_recount(kafka_topics, told)
    check_runs(kafka_topics, told)
    check_state(kafka_topics, POLICY, told)


def _sent(flow: Flow, count: int) -> Callable[[], bool]:
    return lambda: flow.sent >= count
