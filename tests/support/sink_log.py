"""A log for sinks, and what must be in a store after it, worked out from the topics alone."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random
from typing import Any

from schemas.codec import encode
from schemas.rollup import Rollup, Share
from schemas.run import RunRecord
from streams.clock import wall_ms
from streams.sinks.stores.base import Store
from tests.support.kafka import Record, TopicSpace, produce, read_all
from tests.support.messages import DAY_MS, HOUR_MS, MINUTE_MS, llm_call, run_started, tool_call

TENANTS = ("acme", "globex", "hooli", "initech", "umbrella", "vandelay")
POLICY = {
    "version": "with-a-price",
    "price": [{"model": "house-model", "input": 2.0, "output": 10.0}],
    "contract": [{"tenant": "acme", "value_usd": 100}],
}
PRICED_NANOUSD = 1000 * 2_000 + 100 * 10_000
"""A call of house-model (1,000 tokens in, 100 out) once the policy is in force."""
TOO_LATE_DAYS = 3
Sums = Counter[tuple[str, str]]
"""(tenant, day) -> nano-dollars."""


def write_log(space: TopicSpace, events: int, seed: int, *, has_policy: bool = False) -> None:
    """Usage, half of it before a policy with a price, unless there is one; then runs and rollups, each written several
    times as it grows.
    """
    random = Random(seed)
    now_ms = wall_ms()
    _write(space, "usage.v1", _usage(random, now_ms, events // 2, "after" if has_policy else "before", f"{seed}a"))
    if not has_policy:
        _write(space, "policy.v1", [Record(json.dumps(POLICY).encode(), b"default")])
    _write(space, "usage.v1", _usage(random, now_ms, events // 2, "after", f"{seed}b"))
    _write(space, "runs.v1", _runs(random, now_ms, events // 4))
    _write(space, "rollups.v1", _rollups(random, now_ms, events // 4))


def sums_of_log(space: TopicSpace) -> Sums:
    """What each tenant has spent on each UTC day: every id once, late spend only where it was sent to be booked."""
    found: Sums = Counter()
    for event in _events(space):
        if event["type"] in ("llm_call", "tool_call"):
            found[event["tenant_id"], day_of_ms(event["ts_ms"])] += _cost(event)
    return Counter({place: sum_ for place, sum_ in found.items() if sum_})


def counts_of_log(space: TopicSpace) -> tuple[int, int]:
    """Events and runs, each once."""
    runs = {record.key for record in _read(space, "runs.v1")}
    return sum(1 for _ in _events(space)), len(runs)


def run_costs_of_log(space: TopicSpace) -> Counter[str]:
    """What the runs of each tenant cost as they stand last."""
    last = {record.key: json.loads(record.value or b"") for record in _read(space, "runs.v1")}
    return _by_tenant(last.values())


def rollup_costs_of_log(space: TopicSpace) -> Counter[str]:
    """What the hours of each tenant cost as they stand last."""
    last = {record.key: json.loads(record.value or b"") for record in _read(space, "rollups.v1")}
    return _by_tenant(last.values())


def shares_of_log(space: TopicSpace) -> Counter[tuple[str, str]]:
    """What each model cost each tenant, by the breakdowns of the hours as they stand last."""
    last = {record.key: json.loads(record.value or b"") for record in _read(space, "rollups.v1")}
    found: Counter[tuple[str, str]] = Counter()
    for rollup in last.values():
        for name, share in rollup["by"]["model"].items():
            found[rollup["tenant_id"], name] += share["cost_nanousd"]
    return found


def sums_in(store: Store) -> Sums:
    """The same as `sums_of_log`, as a store has it."""
    rows = store.query("select tenant_id, day, cost_nanousd from spend_by_day where cost_nanousd <> 0")
    return Counter({(tenant, str(day)): int(sum_) for tenant, day, sum_ in rows})


def check_store(store: Store, space: TopicSpace, told: str) -> None:
    """The store holds what the topics hold, each thing once and as it stands last. `told` ends up in failures."""
    assert sums_in(store) == sums_of_log(space), told
    (events,), (runs,) = store.query("select count(*) from events")[0], store.query("select count(*) from runs")[0]
    assert (events, runs) == counts_of_log(space), told
    for table, expected in (("runs", run_costs_of_log(space)), ("rollups", rollup_costs_of_log(space))):
        rows = store.query(f"select tenant_id, cast(sum(cost_nanousd) as bigint) from {table} group by tenant_id")
        assert Counter(dict(rows)) == expected, f"{told}: {table}"
    rows = store.query(
        "select tenant_id, name, cast(sum(cost_nanousd) as bigint) from breakdowns where dimension = 'model' "
        "group by tenant_id, name"
    )
    assert Counter({(tenant, name): sum_ for tenant, name, sum_ in rows}) == shares_of_log(space), told


def day_of_ms(ms: int) -> str:
    """The UTC day of a moment."""
    return datetime.fromtimestamp(ms / 1000, UTC).date().isoformat()


def _usage(random: Random, now_ms: int, count: int, phase: str, name: str) -> list[Record]:
    made: list[Any] = []
    for number in range(count):
        common: dict[str, Any] = {
            "tenant_id": random.choice(TENANTS), "run_id": f"run-{random.randrange(40)}", "tags": {"phase": phase},
            "event_id": f"{name}-{number}",
        }  # fmt: skip
        ts_ms = now_ms - random.randrange(MINUTE_MS, 20 * HOUR_MS)
        match random.randrange(12):
            case 0:
                made.append(run_started(ts_ms, workflow="w\0ith a nul", **common))
            case 1 | 2:
                made.append(tool_call(ts_ms, cost_nanousd=random.choice([None, 7_000]), **common))
            case 3 | 4:
                made.append(llm_call(ts_ms, model="house-model", cost_nanousd=None, **common))
            case 5:
                late_ms = now_ms - TOO_LATE_DAYS * DAY_MS
                made.append(llm_call(late_ms, usd=1, backfill=random.random() < 0.5, **common))
            case 6 if made:
                made.append(random.choice(made))
            case _:
                made.append(
                    llm_call(ts_ms, usd=random.randrange(1, 500) / 100, feature="Ünïcode 🔥 'quoted'", **common)
                )
    records = [Record(encode(one), one.tenant_id.encode()) for one in made]
    records[len(records) // 2 : 0] = [Record(b"no event", b"acme"), Record(b'{"type": "llm_call"}', b"acme")]
    return records


def _runs(random: Random, now_ms: int, count: int) -> list[Record]:
    made = []
    for number in range(count):
        run = RunRecord(
            tenant_id=random.choice(TENANTS), run_id=f"run-{random.randrange(40)}", ts_ms=now_ms + number, state="live",
            started_ms=now_ms - HOUR_MS, last_ms=now_ms, cost_nanousd=number * 1000, calls=number, tool_calls=0,
            retries=0, premium_calls=0, input_tokens=1, output_tokens=1, workflow="support", tags={"a": "b"},
        )  # fmt: skip
        made.append(Record(encode(run), run.key.encode()))
    return made


def _rollups(random: Random, now_ms: int, count: int) -> list[Record]:
    made = []
    hour_ms = now_ms // HOUR_MS * HOUR_MS
    for number in range(count):
        start_ms = hour_ms - random.randrange(30) * HOUR_MS
        names = random.sample(["opus", "haiku", "gpt", "other"], 2)
        counts = dict.fromkeys(
            ("tool_calls", "retries", "errors", "input_tokens", "output_tokens", "unpriced_calls", "unpriced_tokens",
             "runs_started", "runs_finished", "accepted", "edited", "rejected", "escalated"), 0,
        )  # fmt: skip
        rollup = Rollup(
            tenant_id=random.choice(TENANTS), workflow="support", hour_start_ms=start_ms,
            hour_end_ms=start_ms + HOUR_MS, cost_nanousd=2 * number, calls=number, ts_ms=now_ms + number,
            by={"model": {name: Share(cost_nanousd=number, calls=1) for name in names}}, **counts,
        )  # fmt: skip
        made.append(Record(encode(rollup), rollup.key.encode()))
    return made


def _write(space: TopicSpace, topic: str, records: list[Record]) -> None:
    produce(space.bootstrap, space.name(topic), records)


def _events(space: TopicSpace) -> Iterator[dict[str, Any]]:
    """The events that can be read, each id at its first append."""
    seen = set()
    for record in _read(space, "usage.v1"):
        try:
            event = json.loads(record.value or b"")
            place = event["tenant_id"], event["event_id"]
        except (ValueError, KeyError):
            continue
        if place not in seen:
            seen.add(place)
            yield event | {"append_ms": record.timestamp_ms}


def _cost(event: dict[str, Any]) -> int:
    if event["append_ms"] - event["ts_ms"] > DAY_MS and not event.get("backfill"):
        return 0
    if event.get("model") == "house-model":
        return PRICED_NANOUSD if event["tags"]["phase"] == "after" else 0
    return event.get("cost_nanousd") or 0


def _by_tenant(values: Any) -> Counter[str]:
    found: Counter[str] = Counter()
    for one in values:
        found[one["tenant_id"]] += one["cost_nanousd"]
    return found


def _read(space: TopicSpace, topic: str) -> list[Record]:
    return read_all(space.bootstrap, space.name(topic))
