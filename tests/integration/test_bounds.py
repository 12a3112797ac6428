"""One tenant, or whoever makes some up, harms nobody else: on a real broker."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from models.rules.policy import read_policy_toml
from streams.kafka.partitioner import partition_of
from tests.support.kafka import Record, TopicSpace, produce, read_all
from tests.support.messages import YESTERDAY_MS
from tests.support.state_rows import counted
from tests.support.worker_process import WorkerProcess

TENANTS, RULES, STALL_LIMIT_S = 1_500, 500, 2
LOOPING = "tenant-77"
STOPS_LOOPS = '[[repeat]]\nname = "loops"\nmode = "enforce"\naction = "kill"\n'
PASSED = '[[budget]]\nname = "passed"\nperiod = "day"\nlimit_usd = 0.5\nthresholds = [1.0]\n'
"""Everybody has spent more than that already."""
WAITING = "spendfuse_tenants_waiting"
FEW = 20
"""Tenants that are known one by one where there is a limit."""


def spend(space: TopicSpace, tenants: int, event: str = "e") -> dict[int, int]:
    """A dollar of each of so many tenants. Returns partition -> the offset of its last record."""
    records = []
    for number in range(tenants):
        tenant = f"tenant-{number}"
        call = {
            "type": "llm_call", "event_id": event, "ts_ms": YESTERDAY_MS, "tenant_id": tenant, "run_id": "r",
            "model": "m", "cost_nanousd": 10**9,
        }  # fmt: skip
        home = partition_of(tenant.encode(), space.partitions)
        records.append(Record(json.dumps(call).encode(), tenant.encode(), timestamp_ms=YESTERDAY_MS, partition=home))
    sent = produce(space.bootstrap, space.name("usage.v1"), records)
    return {
        number: max(one.offset or 0 for one in sent if one.partition == number) for number in range(space.partitions)
    }


def rules(count: int) -> str:
    """A policy of so many budgets."""
    budget = '[[budget]]\nname = "b{0}"\ngroup_by = ["tenant_id"]\nperiod = "day"\nlimit_usd = {1}\n'
    return "".join(budget.format(number, 1_000 + number) for number in range(count))


def loop(space: TopicSpace) -> None:
    """A run of one tenant makes the same call again and again."""
    home = partition_of(LOOPING.encode(), space.partitions)
    records = []
    for number in range(12):
        call = {
            "type": "tool_call", "event_id": f"loop-{number}", "ts_ms": YESTERDAY_MS + number, "tenant_id": LOOPING,
            "run_id": "looping", "tool": "search", "args_hash": "a", "result_hash": "x",
        }  # fmt: skip
        records.append(Record(json.dumps(call).encode(), LOOPING.encode(), (), YESTERDAY_MS + number, home))
    produce(space.bootstrap, space.name("usage.v1"), records)


def alerts_on(space: TopicSpace) -> list[dict[str, Any]]:
    """All alerts that may be read, each with where it stands."""
    read = read_all(space.bootstrap, space.name("alerts.v1"))
    return [json.loads(one.value or b"") | {"partition": one.partition, "offset": one.offset} for one in read]


def test_many_rules_for_many_tenants_hold_nobody_up(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """Bringing them to everybody takes longer than a loop may stand still. A worker that is started under them kills a
    run that loops long before they have reached the last tenant. It is killed itself in the midst of that; the next one
    goes on where it was, everybody is told of what the new rules find, once, and no dollar is lost.
    """
    few = tmp_path / "few.toml"
    few.write_text(rules(1), encoding="utf-8")
    many = read_policy_toml(rules(RULES) + STOPS_LOOPS + PASSED).to_json()
    bootstrap, prefix = kafka_topics.bootstrap, kafka_topics.prefix
    with WorkerProcess(bootstrap, prefix, few) as worker:
        worker.wait_applied(spend(kafka_topics, TENANTS))
        assert worker.stop() == 0, worker.tail()
    loop(kafka_topics)
    produce(bootstrap, kafka_topics.name("policy.v1"), [Record(many, b"default", timestamp_ms=YESTERDAY_MS)])
    with WorkerProcess(bootstrap, prefix, few, STALL_LIMIT_S=STALL_LIMIT_S) as worker:
        worker.wait_said("command")
        worker.process.kill()
        worker.wait_exit()
    with WorkerProcess(bootstrap, prefix, few, STALL_LIMIT_S=STALL_LIMIT_S) as worker:
        worker.wait_applied(spend(kafka_topics, TENANTS, "again"))
        worker.wait_for(lambda: sum(worker.metric(WAITING).values()) == 0, 60, "everybody follows")
        assert worker.stop() == 0, worker.tail()
    alerts = alerts_on(kafka_topics)
    passed = Counter(alert["tenant_id"] for alert in alerts if alert["rule"] == "passed" and alert["level"] == 1)
    assert passed == Counter(f"tenant-{number}" for number in range(TENANTS))
    [killed] = [alert for alert in alerts if alert["rule"] == "loops" and alert["command"] == "kill"]
    later = [one for one in alerts if one["partition"] == killed["partition"] and one["offset"] > killed["offset"]]
    told_later = {alert["tenant_id"] for alert in later if alert["rule"] == "passed"}
    assert len(told_later) > TENANTS / kafka_topics.partitions / 2
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
