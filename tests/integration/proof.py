"""What a run of the worker must have left behind, worked out apart from it, and the comparison."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import xxhash

from models.engine import Engine
from models.rules.policy import Policy, read_policy_toml
from models.state.seen_rows import SEED_KEY
from models.stimuli import RecordRefused, UsageSeen
from schemas.codec import dead_letter, decode_usage, encode
from schemas.errors import Undecodable
from streams.tools.backtest import effects_of
from streams.tools.scorecard import Scorecard
from tests.integration.recount import check_recount
from tests.integration.recount_runs import check_runs
from tests.support.kafka import Record, TopicSpace, is_told_once, read_all, wait_settled
from tests.support.load import POLICY, Flow, Logged, Shape, usage_log, write_events

Fact = tuple[str, str, bytes]
"""Topic, key and value of a record."""
Rows = dict[bytes, bytes]
FENCE = b'["fence"]'
HEADER_BYTES = 17
SEEN_HEADER_BYTES, SEEN_STARTED_BYTES = 16, 8
"""Of a row of event ids; whether it is sealed stands behind the time at which its generation began."""
READ_TIMEOUT_S = 90.0
DISOBEYED = "spending-after-kill"
"""The rule about kills that were not obeyed. When a kill went out is the worker's to know and no replay's, so that what
it finds is compared nowhere."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the backtest says of a log."""

    facts: Counter[Fact]
    """Alerts and commands."""
    rollups: dict[str, bytes]
    """Key -> its last value."""
    runs: dict[str, bytes]
    """The same of runs.v1."""


@dataclass(frozen=True, slots=True)
class Load:
    """A small log under the tests' policy, and what it must lead to."""

    log: list[Logged]
    policy: Path
    expected: Expected


def small_load(folder: Path, shape: Shape) -> Load:
    """A log of that shape, with its files in `folder`."""
    log = usage_log(shape)
    policy = folder / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    return Load(log, policy, expect(POLICY, write_events(log, folder / "events.jsonl")))


@contextmanager
def flowing(space: TopicSpace, load: Load, rate_per_s: float) -> Iterator[Flow]:
    """The load, written to usage.v1 at a steady rate."""
    flow = Flow(space.bootstrap, space.name("usage.v1"), load.log, rate_per_s)
    flow.start()
    yield flow
    flow.abandon()


def check_all(space: TopicSpace, load: Load, flow: Flow, told: str) -> None:
    """What was published, what was refused and the state are as they must be."""
    check_published(space, load.expected, told)
    check_dead_letters(space, flow, told)
    check_recount(space, told)
    check_runs(space, told)
    check_state(space, POLICY, told)


def expect(policy_text: str, events: Path) -> Expected:
    """Run the backtest over a file of events."""
    policy = read_policy_toml(policy_text)
    facts: Counter[Fact] = Counter()
    last: dict[str, dict[str, bytes]] = {"rollups.v1": {}, "runs.v1": {}}
    for effect in effects_of(policy, events, Scorecard(), progress=False):
        value = encode(effect.value)
        if effect.topic in last:
            last[effect.topic][effect.key] = value
        else:
            facts[effect.topic, effect.key, value] += 1
    return Expected(facts, last["rollups.v1"], last["runs.v1"])


def check_published(space: TopicSpace, expected: Expected, told: str) -> None:
    """Alerts and commands are the expected ones, each once; of every rollup and every run the last record is. `told`
    ends up in failures.

    When the last one was published is not compared: a log that stands still for longer than a rollup or a run waits,
    be it for a restart on a busy machine, has some published by time alone.
    """
    written = ("alerts.v1", "control.v1", "rollups.v1", "runs.v1", "usage.dlq.v1", "state.v1")
    wait_settled(space.bootstrap, [space.name(topic) for topic in written])
    found: Counter[Fact] = Counter()
    for topic in ("alerts.v1", "control.v1"):
        found.update((topic, *_key_value(record)) for record in _read(space, topic) if is_told_once(record))
    unreadable = {fact for fact in found if is_about_unreadable(fact[2])}
    assert all(found.pop(fact) == 1 for fact in unreadable), f"{told}: told twice of what cannot be read"
    wanted, found = _without_disobedience(expected.facts), _without_disobedience(found)
    missing, extra = wanted - found, found - wanted
    assert not missing, f"{told}: {missing.total()} missing, such as {sorted(missing)[:2]}"
    assert not extra, f"{told}: {extra.total()} too many or twice, such as {sorted(extra)[:2]}"
    _check_last(expected.rollups, _read(space, "rollups.v1"), f"{told}: the last rollups")
    runs = _read(space, "runs.v1")
    twice = [fact for fact, times in Counter(map(_key_value, runs)).items() if times > 1]
    assert not twice, f"{told}: records of runs were written twice, such as {twice[:2]}"
    _check_last(expected.runs, runs, f"{told}: the last records of runs")


def _check_last(last: dict[str, bytes], records: Iterable[Record], told: str) -> None:
    last, found = _untimed(last), _untimed(dict(map(_key_value, records)))
    differing = {key for key in last | found if last.get(key) != found.get(key)}
    shown = [(key, last.get(key), found.get(key)) for key in sorted(differing)[:2]]
    assert not differing, f"{told} differ for {len(differing)} keys, such as {shown}"


def _without_disobedience(facts: Counter[Fact]) -> Counter[Fact]:
    return Counter({fact: times for fact, times in facts.items() if not is_about_disobedience(fact[2])})


def is_about_disobedience(value: bytes) -> bool:
    """Whether an alert tells of a kill that was not obeyed."""
    return bool(json.loads(value).get("rule") == DISOBEYED)


def is_about_unreadable(value: bytes) -> bool:
    """Whether an alert tells of records that could not be read: a file of events has no keys that say whose they were,
    so that the backtest tells nobody.
    """
    return "reasons" in json.loads(value).get("evidence", ())


def _untimed(records: Mapping[str, bytes]) -> dict[str, bytes]:
    """Rollups or runs without the time at which they were published."""
    return {key: json.dumps(json.loads(value) | {"ts_ms": 0}).encode() for key, value in records.items()}


def check_dead_letters(space: TopicSpace, flow: Flow, told: str) -> None:
    """Every bad record became one dead letter with its coordinates and reason, and nothing else did."""
    letters = [json.loads(record.value or b"") for record in _read(space, "usage.dlq.v1")]
    found = sorted((letter["reason"], letter["partition"], letter["offset"]) for letter in letters)
    assert found == sorted(flow.refused), told
    assert {letter["topic"] for letter in letters} <= {space.name("usage.v1")}, told


def check_state(space: TopicSpace, policy_text: str, told: str) -> None:
    """Each partition's rows are those of a fresh engine over its log, and its fence proves them."""
    policy = read_policy_toml(policy_text)
    log = _by_partition(_read(space, "usage.v1"))
    changelog = {partition: newest(records) for partition, records in _by_partition(_read(space, "state.v1")).items()}
    for partition, records in log.items():
        rows = changelog[partition]
        fence = json.loads(rows.pop(FENCE))
        assert fence["usage_offset"] == records[-1].offset, told
        assert int(fence["digest"], 16) == digest_of(rows), f"{told}: partition {partition} has another digest"
        expected, found = canonical(recomputed(policy, records, seed_of(rows))), canonical(rows)
        differing = {key for key in expected | found if expected.get(key) != found.get(key)}
        shown = [(key, expected.get(key), found.get(key)) for key in sorted(differing)[:2]]
        assert not differing, f"{told}: {len(differing)} rows of partition {partition} differ, such as {shown}"


def check_totals(space: TopicSpace, events: Path, told: str) -> None:
    """Money and calls per tenant, as the rollups tell them, equal a plain recount of the file."""
    cost: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    seen = set()
    for line in events.read_bytes().splitlines():
        message = json.loads(line)
        if message["event_id"] in seen:
            continue
        seen.add(message["event_id"])
        cost[message["tenant_id"]] += message.get("cost_nanousd") or 0
        calls[message["tenant_id"]] += message["type"] in ("llm_call", "tool_call")
    told_cost: Counter[str] = Counter()
    told_calls: Counter[str] = Counter()
    rollups = dict(_key_value(record) for record in _read(space, "rollups.v1"))
    for rollup in map(json.loads, rollups.values()):
        told_cost[rollup["tenant_id"]] += rollup["cost_nanousd"]
        told_calls[rollup["tenant_id"]] += rollup["calls"] + rollup["tool_calls"]
    assert told_cost == cost, told
    assert told_calls == calls, told


def seed_of(rows: Rows) -> int:
    """The secret under which a state's event ids are hashed."""
    return int.from_bytes(rows[SEED_KEY], "little")


def recomputed(policy: Policy, records: Iterable[Record], seed: int) -> Rows:
    """The rows of a fresh engine that was given a partition's records in order."""
    engine = Engine(policy, seed)
    rows: Rows = {}
    for number, record in enumerate(records):
        assert record.timestamp_ms is not None
        assert record.key is not None
        try:
            message = decode_usage(record.value)
        except Undecodable as fault:
            letter = dead_letter("usage.v1", 0, number, record.key, record.value, fault, record.timestamp_ms)
            engine.handle(RecordRefused(letter, record.key.decode()))
            continue
        if record.key == message.tenant_id.encode():
            engine.handle(UsageSeen(message, record.timestamp_ms))
        if number % 1000 == 0:
            _settle(engine, rows)
    _settle(engine, rows)
    return rows


def newest(records: Iterable[Record]) -> Rows:
    """The newest row of every key, deleted ones left out."""
    rows: Rows = {}
    for record in records:
        assert record.key is not None
        if record.value is None:
            rows.pop(record.key, None)
        else:
            rows[record.key] = record.value
    return rows


def digest_of(rows: Mapping[bytes, bytes]) -> int:
    """The sum that a fence must hold, worked out from its definition."""
    total = 0
    for key, value in rows.items():
        total += xxhash.xxh3_64(value, seed=xxhash.xxh3_64(key).intdigest()).intdigest()
    return total % 2**64


def canonical(rows: Mapping[bytes, bytes]) -> dict[tuple[str, ...], Any]:
    """Rows without what depends on when they were written: how ids were grouped into rows, two moments, and whether a
    command was answered in time.
    """
    found: dict[tuple[str, ...], Any] = {}
    for key, value in rows.items():
        kind, *parts = msgspec.json.decode(key, type=tuple[str, ...])
        if kind == "seen":
            started_ms, ids = value[:SEEN_STARTED_BYTES], value[SEEN_HEADER_BYTES:]
            _, known = found.setdefault((kind, parts[0]), (started_ms, set()))
            known.update(ids[at : at + 8] for at in range(0, len(ids), 8))
            continue
        fields = msgspec.msgpack.decode(value[HEADER_BYTES:])
        if kind == "tenant":
            fields[0] = None  # its clock, which a live run's row may know better
            fields[2] = {stop: runs for stop, runs in fields[2].items() if "/" not in stop}  # without disobedience
        elif kind == "scope":
            fields[2] = None  # when it was last judged
        elif kind == "command":
            state, *known, _, cause_ms, cost_nanousd, acked_ms, _, cause_id = fields
            fields = [state if state != "overdue" else "given", *known, cause_ms, cost_nanousd, acked_ms, cause_id]
        elif kind == "incident" and fields[1] == DISOBEYED:
            continue
        found[kind, *parts] = (b"" if kind == "command" else value[:HEADER_BYTES], fields)
    return found


def _settle(engine: Engine, rows: Rows) -> None:
    engine.drain_effects()
    for key, value in engine.drain_rows():
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value


def _read(space: TopicSpace, topic: str) -> list[Record]:
    return read_all(space.bootstrap, space.name(topic), timeout_s=READ_TIMEOUT_S)


def _key_value(record: Record) -> tuple[str, bytes]:
    assert record.key is not None
    assert record.value is not None
    return record.key.decode(), record.value


def _by_partition(records: Sequence[Record]) -> dict[int, list[Record]]:
    found: dict[int, list[Record]] = {}
    for record in records:
        assert record.partition is not None
        found.setdefault(record.partition, []).append(record)
    return found
