"""One tenant, or whoever makes some up, harms nobody else: on a real broker."""

import json
from pathlib import Path

from streams.kafka.partitioner import partition_of
from tests.support.kafka import Record, TopicSpace, produce, read_all
from tests.support.state_rows import counted
from tests.support.worker_process import WorkerProcess

TS_MS = 1_795_276_800_000
TENANTS, RULES, STALL_LIMIT_S = 1_500, 500, 2
FEW = 20
"""Tenants that are known one by one where there is a limit."""


def spend(space: TopicSpace, tenants: int, event: str = "e") -> dict[int, int]:
    """A dollar of each of so many tenants. Returns partition -> the offset of its last record."""
    records = []
    for number in range(tenants):
        tenant = f"tenant-{number}"
        call = {
            "type": "llm_call", "event_id": event, "ts_ms": TS_MS, "tenant_id": tenant, "run_id": "r", "model": "m",
            "cost_nanousd": 10**9,
        }  # fmt: skip
        home = partition_of(tenant.encode(), space.partitions)
        records.append(Record(json.dumps(call).encode(), tenant.encode(), timestamp_ms=TS_MS, partition=home))
    sent = produce(space.bootstrap, space.name("usage.v1"), records)
    return {
        number: max(one.offset or 0 for one in sent if one.partition == number) for number in range(space.partitions)
    }


def rules(count: int) -> str:
    """A policy of so many budgets."""
    budget = '[[budget]]\nname = "b{0}"\ngroup_by = ["tenant_id"]\nperiod = "day"\nlimit_usd = {1}\n'
    return "".join(budget.format(number, 1_000 + number) for number in range(count))


def test_many_rules_for_many_tenants_end_no_worker(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """Bringing them to everybody takes longer than a loop may stand still. A worker that is started
    under them shows that it goes on, and takes in what comes after them.
    """
    few, many = tmp_path / "few.toml", tmp_path / "many.toml"
    few.write_text(rules(1), encoding="utf-8")
    many.write_text(rules(RULES), encoding="utf-8")
    bootstrap, prefix = kafka_topics.bootstrap, kafka_topics.prefix
    with WorkerProcess(bootstrap, prefix, few) as worker:
        worker.wait_applied(spend(kafka_topics, TENANTS))
        assert worker.stop() == 0, worker.tail()
    with WorkerProcess(bootstrap, prefix, many, STALL_LIMIT_S=STALL_LIMIT_S) as worker:
        worker.wait_applied(spend(kafka_topics, TENANTS, "again"))
        assert worker.stop() == 0, worker.tail()
    assert counted(kafka_topics) == {f"tenant-{number}": 2 * 10**9 for number in range(TENANTS)}


def test_made_up_tenants_count_together(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """Beyond the limit no dollar is lost and nobody is remembered, and somebody is paged, also after a restart."""
    policy = tmp_path / "policy.toml"
    policy.write_text(f"max_tenants_per_partition = {FEW}\n{rules(1)}", encoding="utf-8")
    for _ in range(2):
        with WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy) as worker:
            worker.wait_applied(spend(kafka_topics, TENANTS))  # the second time, every one is a duplicate
            assert worker.stop() == 0, worker.tail()
    totals = counted(kafka_topics)
    assert totals.total() == TENANTS * 10**9
    assert len(totals) == FEW * kafka_topics.partitions + 1
    assert totals["spendfuse/overflow"] == (TENANTS - FEW * kafka_topics.partitions) * 10**9
    alerts = [json.loads(one.value or b"") for one in read_all(kafka_topics.bootstrap, kafka_topics.name("alerts.v1"))]
    told = [alert for alert in alerts if alert["rule"] == "tenants" and alert["state"] == "open"]
    assert len(told) == kafka_topics.partitions
