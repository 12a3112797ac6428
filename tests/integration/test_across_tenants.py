"""What all tenants spend together, on a real Kafka: exact whoever dies where, and told once."""

import json
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from spendfuse import Emitter, Guard, Paused, Run, derive_keys
from spendfuse.kafka import KafkaControl, KafkaTransport

from models.state.rows import read_fields
from schemas.codec import encode
from schemas.internal.spend import ALL_TENANTS
from schemas.operator import LimitException
from schemas.signing import OperatorKey
from streams.clock import wall_ms
from streams.kafka.partitioner import partition_of
from streams.settings import Settings
from streams.tools.rebuild.in_place import run_rebuild
from tests.support.kafka import Record, TopicSpace, produce, read_all, wait_settled, wait_until
from tests.support.worker_process import ENGINE_KEY, OPERATOR_KEY, OPERATOR_PUBLIC_KEY, WorkerProcess

SEED = 20_261_127
HOUR_MS = 3_600_000
MODELS = ("small", "large")
TENANTS = tuple(f"tenant-{number}" for number in range(6))
CALLS = 900
PHASES = ((0.0, 0.6, 0.5, "rows_sent"), (0.6, 0.9, 0.8, "offsets_sent"), (0.9, 1.0, 1.0, "committed"))
"""Which shares of the calls are made, which level they reach, and where a worker dies meanwhile."""
SOON_MS = 50
"""Deltas leave so often that every death may meet one on its way."""


class Log(NamedTuple):
    """Calls of several tenants, and what they come to."""

    records: list[Record]
    spent: dict[str, int]
    """Model -> nano-dollars."""

    @property
    def total(self) -> int:
        return sum(self.spent.values())


def calls(start_ms: int) -> Log:
    """Seeded calls within one hour; every ninth is sent twice."""
    rng = Random(SEED)
    records: list[Record] = []
    spent = dict.fromkeys(MODELS, 0)
    for number in range(CALLS):
        at_ms = start_ms + number * 2_000
        tenant, model, nanousd = rng.choice(TENANTS), rng.choice(MODELS), rng.randrange(1, 200_000_001)
        spent[model] += nanousd
        value = json.dumps({
            "type": "llm_call", "event_id": f"e{number}", "ts_ms": at_ms, "tenant_id": tenant, "run_id": f"r{number}",
            "model": model, "cost_nanousd": nanousd, "owner": f"owner-{number % 3}", "workflow": "w",
        }).encode()  # fmt: skip
        records += [Record(value, tenant.encode(), (), at_ms)] * (2 if number % 9 == 0 else 1)
    return Log(records, spent)


def policy(log: Log, path: Path) -> Path:
    """Limits that are reached by the last nano-dollar, and not by one less."""
    tables = [
        ("company", [], log.total),
        ("model", ["model"], log.spent["small"]),
    ]
    path.write_text(
        'version = "across"\n'
        + "\n".join(
            f'[[budget]]\nname = "{name}"\ngroup_by = {json.dumps(names)}\nperiod = "hour"\n'
            f"limit_usd = {nanousd // 10**9}.{nanousd % 10**9:09}"
            for name, names, nanousd in tables
        )
        + f"\noverrides = {{ large = {log.spent['large'] // 10**9}.{log.spent['large'] % 10**9:09} }}\n",
        encoding="utf-8",
    )
    return path


def alerts(space: TopicSpace) -> list[dict[str, Any]]:
    """What was told of all tenants together."""
    records = read_all(space.bootstrap, space.name("alerts.v1"))
    return [json.loads(record.value or b"") for record in records if record.key == ALL_TENANTS.encode()]


def levels(told: Iterable[dict[str, Any]]) -> dict[str, list[float]]:
    """Scope -> the levels told, in order."""
    found: dict[str, list[float]] = {}
    for alert in told:
        if alert["state"] in ("open", "escalated"):
            found.setdefault(alert["scope"].get("model", "company"), []).append(alert["level"])
    return found


def wait_told(space: TopicSpace, level: float) -> None:
    """Wait until that level of the company's budget is told."""
    wait_until(lambda: level in levels(alerts(space)).get("company", []), 60, f"level {level} is told")


def watched(space: TopicSpace) -> dict[str, int]:
    """Scope -> nano-dollars, as the newest rows have them: of a scope across tenants there is one in all partitions."""
    rows = {(one.partition, one.key): one.value for one in read_all(space.bootstrap, space.name("state.v1"))}
    found: dict[str, int] = {}
    for (_, key), value in rows.items():
        kind, *parts = json.loads(key or b"[null]")
        if kind == "scope" and parts[0] == ALL_TENANTS and value is not None:
            name = parts[2] if len(parts) > 2 else "company"
            assert name not in found, "a scope lives in two partitions"
            found[name] = read_fields(value)[0]
    return found


def counted(worker: WorkerProcess, space: TopicSpace, records: list[Record]) -> None:
    """Have a worker count records, and end."""
    worker.wait_said("state restored")
    places = produce(space.bootstrap, space.name("usage.v1"), records)
    worker.wait_applied({one.partition: one.offset for one in places if one.partition is not None and one.offset})
    assert worker.stop() == 0, worker.tail()


def sent(space: TopicSpace) -> int:
    """What all deltas come to, each counted once for the company and once for its model."""
    deltas = [json.loads(record.value or b"") for record in read_all(space.bootstrap, space.name("spend.v1"))]
    return sum(amount[4] for delta in deltas for amount in delta["amounts"])


PAUSE = """
version = "pause"
[[budget]]
name = "feature-month"
group_by = ["feature"]
period = "month"
limit_usd = 2
thresholds = [1.0]
at_limit = "pause"
mode = "enforce"
"""


@pytest.mark.timeout(120)
def test_a_budget_of_all_tenants_stops_the_runs_of_each(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """Two tenants in two partitions spend a budget together. Each one's guard, with no key but its own tenant's, has
    its runs in that scope wait, also those that spent nothing; others go on. An exception lets all go on.
    """
    rules = tmp_path / "policy.toml"
    rules.write_text(PAUSE, encoding="utf-8")
    bootstrap, prefix = kafka_topics.bootstrap, kafka_topics.prefix
    names = [name for name in TENANTS if partition_of(name.encode(), kafka_topics.partitions)][:1] + [
        name for name in TENANTS if not partition_of(name.encode(), kafka_topics.partitions)
    ][:1]
    with (
        WorkerProcess(bootstrap, prefix, rules, TICK_MS=200) as worker,
        Emitter(KafkaTransport(bootstrap, prefix=prefix)) as emitter,
        ExitStack() as guards,
    ):
        served = {
            name: guards.enter_context(
                Guard(
                    KafkaControl(bootstrap, prefix=prefix), emitter, when_blind="stop", tenant_id=name,
                    keys=derive_keys(ENGINE_KEY.encode(), name),
                )
            )
            for name in names
        }  # fmt: skip
        assert all(guard.wait_ready(30) for guard in served.values())
        worker.wait_said("state restored")
        runs = {name: emitter.run(tenant_id=name, feature="search", workflow="w").start() for name in names}
        for run in runs.values():
            run.llm_call(model="m", input_tokens=9, output_tokens=9, cost_nanousd=10**9)
        for name, guard in served.items():
            worker.wait_for(lambda guard=guard, name=name: is_paused(guard, runs[name]), 60, f"{name} is paused")  # type: ignore[misc]
            assert is_paused(guard, emitter.run(tenant_id=name, feature="search"))
            assert not is_paused(guard, emitter.run(tenant_id=name, feature="other"))
        give_exception(kafka_topics)
        for name, guard in served.items():
            worker.wait_for(lambda guard=guard, name=name: not is_paused(guard, runs[name]), 60, f"{name} goes on")  # type: ignore[misc]
            assert guard.stats.forged == 0
        assert worker.stop() == 0, worker.tail()


def is_paused(guard: Guard, run: Run) -> bool:
    """Whether the run has to wait before its next call."""
    try:
        guard.check(run)
    except Paused:
        return True
    return False


def give_exception(space: TopicSpace) -> None:
    """An operator raises the budget of all tenants."""
    now_ms = wall_ms()
    order = LimitException(
        message_id="exception-1", ts_ms=now_ms, tenant_id=ALL_TENANTS, who="ana", why="launch", rule="feature-month",
        scope="search", limit_nanousd=10 * 10**9, until_ms=now_ms + HOUR_MS,
    )  # fmt: skip
    value = encode(order)
    headers = tuple(OperatorKey(OPERATOR_KEY.encode()).order_headers(ALL_TENANTS, value))
    produce(space.bootstrap, space.name("operator.v1"), [Record(value, ALL_TENANTS.encode(), headers, now_ms)])


@pytest.mark.timeout(200)
def test_a_rebuild_counts_all_tenants_again(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """State made anew from usage.v1 holds what all tenants have spent, whatever was sent on and whatever was not when
    the worker ended, and goes on from there; nothing is told a second time.
    """
    log = calls((time.time_ns() // 10**6 // HOUR_MS - 3) * HOUR_MS)
    rules = policy(log, tmp_path / "policy.toml")
    settings = Settings(
        kafka_bootstrap=kafka_topics.bootstrap, prefix=kafka_topics.prefix, policy=rules, session_timeout_ms=6000,
        operator_public_key=(bytes.fromhex(OPERATOR_PUBLIC_KEY),),
    )  # fmt: skip
    middle = len(log.records) * 7 // 10
    for records in (log.records[:middle], log.records[middle:]):
        with WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, rules, TICK_MS=200) as worker:
            counted(worker, kafka_topics, records)
        assert run_rebuild(settings) == 0
    with WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, rules) as worker:
        counted(worker, kafka_topics, log.records[-1:])
    assert watched(kafka_topics) == {"company": log.total, **log.spent}
    told = levels(alerts(kafka_topics))
    assert {scope: sorted(set(found)) for scope, found in told.items()} == told, "told twice"


@pytest.mark.timeout(300)
def test_the_sum_over_tenants_is_exact_whoever_dies(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """Six tenants in several partitions, two workers. One of them dies with deltas written and rows not committed, with
    the offsets sent, and right after a commit. In the end the company's and each model's total is the plain sum of the
    calls to the nano-dollar: limits of exactly that much are reached. 50, 80 and 100 % are told once each.
    """
    start_ms = (time.time_ns() // 10**6 // HOUR_MS - 3) * HOUR_MS
    log = calls(start_ms)
    rules = policy(log, tmp_path / "policy.toml")
    rng = Random(SEED)
    ends: dict[int, int] = {}

    def start(slot: str, **settings: object) -> WorkerProcess:
        given = {"TICK_MS": SOON_MS, "BATCH_RECORDS": 20, **settings}
        return WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, rules, slot=slot, **given)

    with start("b") as other:
        other.wait_said("state restored")
        for first, last, level, stage in PHASES:
            times = rng.randrange(2, 9)
            records = log.records[int(first * len(log.records)) : int(last * len(log.records))]
            with start("a", KILL_AT=f"{stage}:{times}") as dying:
                dying.wait_said("state restored")
                for record in produce(kafka_topics.bootstrap, kafka_topics.name("usage.v1"), records):
                    assert record.partition is not None
                    assert record.offset is not None
                    ends[record.partition] = record.offset
                assert dying.wait_exit() == -9, dying.tail()
            with start("a") as worker:
                worker.wait_said("state restored")
                wait_told(kafka_topics, level)
                assert worker.stop() == 0, worker.tail()
        assert len(ends) > 1, "the tenants are all in one partition"
        wait_until(lambda: watched(kafka_topics).get("company") == log.total, 60, f"the company's total, seed {SEED}")
        assert other.stop() == 0, other.tail()
    wait_settled(kafka_topics.bootstrap, [kafka_topics.name(name) for name in ("alerts.v1", "spend.v1", "state.v1")])
    assert watched(kafka_topics) == {"company": log.total, **log.spent}, f"seed {SEED}"
    assert sent(kafka_topics) == 2 * log.total, f"seed {SEED}"
    told = levels(alerts(kafka_topics))
    assert told == {scope: [0.5, 0.8, 1.0] for scope in ("company", *MODELS)}, f"seed {SEED}"
