"""Agents whose clocks are wrong, on a real Kafka: their spend is counted all the same."""

import json

import pytest
from spendfuse import Emitter
from spendfuse._client import clock
from spendfuse.kafka import KafkaTransport

from tests.support.kafka import TopicSpace, read_all

TENANT = "acme"
MINUTE_MS = 60_000
CALLS = 500
COST_NANOUSD = 1_000_000


@pytest.mark.parametrize("ahead_ms", [6 * MINUTE_MS, 12 * 60 * MINUTE_MS])
def test_an_agent_whose_clock_is_ahead_loses_no_spend(
    kafka_topics: TopicSpace, monkeypatch: pytest.MonkeyPatch, ahead_ms: int
) -> None:
    """Six minutes, or half a day: the broker refuses such records, the client finds its time out, and every event
    arrives once, in the order of its run, with the broker's time on the record and the agent's own inside.
    """
    true_ms = clock.wall_clock_ms
    monkeypatch.setattr(clock, "wall_clock_ms", lambda: true_ms() + ahead_ms)
    began_ms = true_ms()
    transport = KafkaTransport(kafka_topics.bootstrap, prefix=kafka_topics.prefix, config={"log_level": 2})
    with Emitter(transport) as emitter:
        with emitter.run(TENANT) as run:
            for _ in range(CALLS):
                run.llm_call(model="m", cost_nanousd=COST_NANOUSD)
        assert emitter.flush(30) == 0
        assert emitter.stats.refused == 0
        emitter.emit({"type": "llm_call", "tenant_id": TENANT, "run_id": "later", "model": "m"})
        assert emitter.flush(30) == 0
    records = read_all(kafka_topics.bootstrap, kafka_topics.name("usage.v1"))
    events = [json.loads(record.value or b"") for record in records]
    assert [event.get("seq") for event in events] == [*range(1, CALLS + 3), None]
    assert all(event["ts_ms"] >= began_ms + ahead_ms for event in events)
    assert abs((records[-1].timestamp_ms or 0) - true_ms()) <= 2 * MINUTE_MS
