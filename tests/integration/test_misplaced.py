"""Records in another partition than their tenant's: another client's partitioner put them there, or they had no key."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

from schemas.codec import encode
from schemas.control import Target
from schemas.operator import Resume
from schemas.signing import OperatorKey
from streams.clock import wall_ms
from streams.kafka.partitioner import partition_of
from tests.support.kafka import Record, TopicSpace, commands_on, produce, read_all
from tests.support.state_rows import counted
from tests.support.worker_process import OPERATOR_KEY, WorkerProcess

TENANTS = ("acme", "modest", "initech", "globex")
CALLS = 16
USD = 10**9
POLICY = """
version = "misplaced"
[[cap]]
name = "run-cost"
limit_usd = 10
at_limit = "kill"
mode = "enforce"
"""


def call(tenant: str, number: int, now_ms: int, key: bytes | None, partition: int) -> Record:
    """A call of a dollar."""
    event = {
        "type": "llm_call", "event_id": f"{tenant}-{number}", "ts_ms": now_ms, "tenant_id": tenant,
        "run_id": f"greedy-{tenant}", "model": "m", "cost_nanousd": USD,
    }  # fmt: skip
    return Record(json.dumps(event).encode(), key, (), now_ms, partition)


def values(space: TopicSpace, topic: str) -> list[dict[str, Any]]:
    """What stands on a topic."""
    return [json.loads(record.value or b"") for record in read_all(space.bootstrap, space.name(topic))]


def test_spend_and_orders_count_wherever_they_were_written(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """Two tenants of four passed $15.84 of $10 unseen, and 4 of 6 resumes were lost: now every dollar and every order
    counts once, in its tenant's partition, also when the worker dies on the way. It is told once a tenant.
    """
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    seed = 20_261_127
    rng = random.Random(seed)
    now_ms = wall_ms()
    partitions = kafka_topics.partitions
    calls = [
        call(
            tenant,
            number,
            now_ms,
            rng.choice([None, tenant.encode()]),
            rng.choice([partition_of(tenant.encode(), partitions), *range(partitions)]),
        )
        for number in range(CALLS)
        for tenant in TENANTS
    ]
    sent = produce(kafka_topics.bootstrap, kafka_topics.name("usage.v1"), calls)
    assert {record.partition for record in sent} == set(range(partitions)), f"seed {seed}"
    for crash in ("rows_sent:1", "offsets_sent:2"):
        with WorkerProcess(
            kafka_topics.bootstrap, kafka_topics.prefix, policy, KILL_AT=crash, BATCH_RECORDS=7
        ) as dying:
            assert dying.wait_exit() == -9, dying.tail()
    with WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy, BATCH_RECORDS=7) as worker:
        dollars = Counter(dict.fromkeys(TENANTS, CALLS * USD))
        worker.wait_for(lambda: counted(kafka_topics) == dollars, 60, "every dollar counted")
        produce(kafka_topics.bootstrap, kafka_topics.name("operator.v1"), [_resume(tenant) for tenant in TENANTS])
        worker.wait_for(lambda: Counter(_actions(kafka_topics))["resume"] == len(TENANTS), 60, "every order obeyed")
        assert worker.stop() == 0, worker.tail()
    assert counted(kafka_topics) == dollars, f"something twice; seed {seed}"
    assert Counter(_actions(kafka_topics)) == {"kill": len(TENANTS), "resume": len(TENANTS)}
    told = [each for each in values(kafka_topics, "alerts.v1") if each["rule"] == "data-quality"]
    assert sorted(each["tenant_id"] for each in told if each["state"] == "open") == sorted(TENANTS)
    assert all("another partition than the tenant's" in each["summary"] for each in told)
    assert values(kafka_topics, "usage.dlq.v1") == []


def _resume(tenant: str) -> Record:
    """An order in the partition after its tenant's."""
    order = Resume(
        message_id=f"resume-{tenant}", ts_ms=wall_ms(), tenant_id=tenant, who="ana", why="wanted",
        target=Target("run", f"greedy-{tenant}"),
    )  # fmt: skip
    value = encode(order)
    headers = tuple(OperatorKey(OPERATOR_KEY.encode()).order_headers(tenant, value))
    return Record(value, tenant.encode(), headers, wall_ms(), (partition_of(tenant.encode(), 4) + 1) % 4)


def _actions(space: TopicSpace) -> list[str]:
    commands = commands_on(space.bootstrap, space.name("control.v1"))
    return [json.loads(command.value or b"")["action"] for command in commands]
