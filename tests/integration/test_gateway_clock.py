"""A gateway on a host whose clock is ahead of the brokers', as after a broker's clock was set back: usage counts."""

import asyncio
from pathlib import Path

import pytest

from schemas.codec import encode
from schemas.duration import HOUR_MS, MINUTE_MS
from streams.clock import wall_ms
from streams.gateway import stamps
from streams.gateway.delivery import Delivery
from streams.gateway.metrics import GatewayMetrics
from streams.gateway.spool import Record, Spool
from streams.settings import Settings
from tests.support.kafka import TopicSpace, read_all, wait_until
from tests.support.messages import llm_call


def call(number: int) -> Record:
    usage = llm_call(wall_ms(), event_id=f"e{number}", tenant_id="acme", run_id="r")
    return Record("usage.v1", b"acme", encode(usage))


@pytest.mark.parametrize("ahead_ms", [4 * MINUTE_MS, HOUR_MS, 25 * HOUR_MS])
def test_records_of_a_host_that_is_ahead_are_taken(
    kafka_topics: TopicSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead_ms: int
) -> None:
    """The brokers refuse what is more than five minutes ahead: all of it went to the disk for as long as the clocks
    differed, and nobody who spent through the gateway was stopped. What is on the disk from before leaves it.
    """
    now_ms = wall_ms()
    monkeypatch.setattr(stamps, "wall_ms", lambda: wall_ms() + ahead_ms)
    settings = Settings(kafka_bootstrap=kafka_topics.bootstrap, prefix=kafka_topics.prefix)
    spool = Spool(tmp_path / "spool", 1 << 20)
    spool.add([call(0)])
    with Delivery(settings, spool, GatewayMetrics()):
        wait_until(lambda: spool.is_empty, 60, "what is on the disk leaves it")
    with Delivery(settings, spool, GatewayMetrics()) as delivery:  # one that has not found out
        asyncio.run(delivery.deliver([call(number) for number in range(1, 20)]))
        wait_until(lambda: spool.is_empty, 60, "what a slow broker left to the disk while it was found out leaves it")
    found = read_all(kafka_topics.bootstrap, kafka_topics.name("usage.v1"))
    assert len(found) == 20
    times = [(one.timestamp_ms or 0) - now_ms for one in found]
    assert -2 * MINUTE_MS - stamps.STEP_MS < min(times) <= max(times) < 6 * MINUTE_MS
    spool.close()
