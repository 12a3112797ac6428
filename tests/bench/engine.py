"""The engine alone, without Kafka: microseconds per event to decode, to decide and to make rows and records."""

import gc
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from models.engine import Engine
from models.rules.policy import Policy, read_policy_toml
from schemas.codec import decode_usage, encode
from streams.settings import Settings
from tests.bench.load import Event, Shape, UsageLoad
from tests.bench.machine import in_fresh_process
from tests.bench.report import Part

POLICIES = ("plain", "wide")
LIVE_RUNS = (1_000, 10_000, 30_000)
WARM_UP = 4
"""Messages per live run before anything is measured: what a run's first calls set up is there then."""
EVENT_RATE = 5_000
"""Events per second of event time: a busy partition."""
NEW_HOUR_MS = 1_798_761_600_000
"""In the middle of every measurement, so that each holds an hour change."""
BATCH = Settings().batch_records
"""The worker's own default."""
STEPS = ("decode", "decide", "rows", "records")


class Case(NamedTuple):
    """What one fresh process found, in microseconds per event; medians over batches where not said otherwise."""

    steps_us: dict[str, float]
    mean_us: float
    longest_batch_ms: float
    rows_per_event: float


def policy_file(name: str) -> Path:
    """The policy file of that name."""
    return Path(__file__).parent / "policies" / f"{name}.toml"


def read_bench_policy(name: str) -> Policy:
    """One of the bench's policies."""
    return read_policy_toml(policy_file(name).read_text(encoding="utf-8"))


def measure(events: int, rounds: int) -> Part:
    """Measure every policy with several numbers of live runs, each round in a fresh process."""
    part = Part("engine", f"the pure engine without Kafka, batches of {BATCH:,}")
    base: dict[str, float] = {}
    for policy in POLICIES:
        for live_runs in LIVE_RUNS:
            cases = [in_fresh_process(run_case, policy, live_runs, events) for _ in range(rounds)]
            label = f"{policy}, {live_runs:,} live runs"
            for step in STEPS:
                part.add(f"{label}: {step}", "us/event", [case.steps_us[step] for case in cases])
            total = part.add(f"{label}: all, mean", "us/event", [case.mean_us for case in cases], base.get(policy))
            base.setdefault(policy, total.median)
            part.add(f"{label}: rows written", "per event", [case.rows_per_event for case in cases])
            part.add(f"{label}: longest batch", "ms", [case.longest_batch_ms for case in cases])
    part.notes = [
        *(describe(policy) for policy in POLICIES),
        "steps are medians over batches; `mean` holds everything, an hour change included",
        "records: alerts, commands and rollups encoded; ratio: to the same policy with the fewest live runs",
    ]
    return part


def describe(name: str) -> str:
    """A policy in a sentence."""
    policy = read_bench_policy(name)
    detectors = {type(rule) for rule in policy.rules.values()}
    tracked = ", ".join(sorted(policy.tracks))
    return (
        f"policy {name}: {len(policy.rules)} rules of {len(detectors)} detectors, {len(policy.meters)} cuts of spend; "
        f"tracks {tracked}"
    )


def run_case(policy: str, live_runs: int, count: int) -> Case:
    """Warm an engine up, then measure `count` events."""
    warm_up = WARM_UP * live_runs
    load = UsageLoad(Shape(NEW_HOUR_MS - (warm_up + count // 2) * 1000 // EVENT_RATE, EVENT_RATE, live_runs))
    engine = Engine(read_bench_policy(policy))
    for event in (*load.opening(), *load.events(warm_up)):
        engine.usage(decode_usage(event.value), event.ts_ms)
    engine.drain_rows()
    engine.drain_effects()
    events = list(load.events(count))
    gc.collect()
    gc.disable()  # as the worker does
    return _measured(engine, events)


def _measured(engine: Engine, events: Sequence[Event]) -> Case:
    spent: dict[str, list[float]] = defaultdict(list)
    rows = 0
    for first in range(0, len(events), BATCH):
        batch = events[first : first + BATCH]
        marks = [time.perf_counter()]
        messages = [decode_usage(event.value) for event in batch]
        marks.append(time.perf_counter())
        for message, event in zip(messages, batch, strict=True):
            engine.usage(message, event.ts_ms)
        marks.append(time.perf_counter())
        rows += len(engine.drain_rows())
        marks.append(time.perf_counter())
        for effect in engine.drain_effects():
            encode(effect.value)
        marks.append(time.perf_counter())
        for step, start, end in zip(STEPS, marks, marks[1:], strict=False):
            spent[step].append(1e6 * (end - start) / len(batch))
    totals = [sum(parts) for parts in zip(*spent.values(), strict=True)]
    return Case(
        steps_us={step: statistics.median(values) for step, values in spent.items()},
        mean_us=statistics.fmean(totals),
        longest_batch_ms=max(totals) * BATCH / 1000,
        rows_per_event=rows / len(events),
    )
