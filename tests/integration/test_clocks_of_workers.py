"""Workers whose hosts' clocks are wrong, on a real Kafka: they decide as if they were right.

Numbers of rows are those of the fault matrix.
"""

import json
from pathlib import Path

from schemas.codec import decode_command
from streams.clock import wall_ms
from tests.support.kafka import Record, TopicSpace, commands_on, produce
from tests.support.worker_process import WorkerProcess
from tests.support.wrong_clock import ahead_by

TENANT = "acme"
LONGEST_S = 600
DUE_IN_S = 22
CLOCKS_AHEAD_MIN = (0, 55, 0, -55, 180)
AHEAD = "spendfuse_host_clock_ahead_seconds"
POLICY = f"""
version = "clocks"
[[cap]]
name = "too-long"
max_duration_s = {LONGEST_S}
at_limit = "kill"
mode = "enforce"
"""


def call(run: str, ts_ms: int, number: int) -> Record:
    """A call that costs nothing."""
    event = {
        "type": "llm_call", "event_id": f"{run}-{number}", "ts_ms": ts_ms, "tenant_id": TENANT, "run_id": run,
        "model": "m", "cost_nanousd": 0,
    }  # fmt: skip
    return Record(json.dumps(event).encode(), TENANT.encode(), (), wall_ms(), 0)


def test_a_take_over_by_a_wrong_clock_ends_nobody_early_and_nobody_late(
    kafka_topics: TopicSpace, tmp_path: Path
) -> None:
    """Row 41: one whose clock was 55 minutes ahead killed 8 of 8 healthy runs, and one that was behind left a fence by
    which the next killed them. Now time goes on at the brokers' pace: of nine runs the one that is due is killed, at
    its own moment, by whoever is there, also by one whose own stamps the broker would refuse.
    """
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    bootstrap = kafka_topics.bootstrap
    usage, control = kafka_topics.name("usage.v1"), kafka_topics.name("control.v1")
    now_ms = wall_ms()
    due_ms = now_ms + DUE_IN_S * 1000
    healthy = [call(f"healthy-{number}", now_ms, 0) for number in range(8)]
    produce(bootstrap, usage, [call("long", due_ms - LONGEST_S * 1000, 0), *healthy])
    for number, ahead_min in enumerate(CLOCKS_AHEAD_MIN, 1):
        wrong = ahead_by(ahead_min * 60, tmp_path)
        with WorkerProcess(bootstrap, kafka_topics.prefix, policy, variables=wrong) as worker:
            worker.wait_said("state restored")
            produce(bootstrap, usage, [call("healthy-0", wall_ms(), number)])  # so that it leaves a fence of its own
            worker.wait_applied({0: len(healthy) + number})
            assert abs(worker.metric(AHEAD)[""] - ahead_min * 60) < 5
            if number == len(CLOCKS_AHEAD_MIN):
                worker.wait_for(lambda: commands_on(bootstrap, control), 60, "a kill")
            assert worker.stop() == 0, worker.tail()
    [killed] = commands_on(bootstrap, control)
    command = decode_command(killed.value)
    assert (command.target.id, command.action, command.issued_ms) == ("long", "kill", due_ms)
    assert due_ms <= (killed.timestamp_ms or 0) < due_ms + 30_000
