"""What each rule costs: two engines take the same events, slice by slice in turn, one with the rule and one without."""

import gc
import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any

from models.detectors.base import REGISTRY
from models.engine import Engine
from models.rules.policy import Policy, read_policy
from schemas.codec import decode_usage
from schemas.usage import UsageMessage
from tests.bench.engine import EVENT_RATE, NEW_HOUR_MS, WARM_UP
from tests.bench.load import Shape, UsageLoad
from tests.bench.machine import in_fresh_process
from tests.bench.report import Part

LIVE_RUNS = 5_000
SLICE = 1_000
"""Events between two looks at the clock: short, so that both engines meet the same machine."""
BASE: Mapping[str, Any] = {"version": "bench", "timezone": "UTC", "cap": [{"name": "cap", "limit_usd": 1_000_000}]}
"""A cap that nobody reaches; beside it only what is always on."""

Events = list[tuple[UsageMessage, int]]


def measure(events: int, rounds: int) -> Part:
    """Measure every rule that is on by itself, and all of them together."""
    part = Part("rules", "what a rule adds to the engine's time for an event, interpreted")
    for name in policies():
        part.add(name, "us/event", [in_fresh_process(added_us, name, events) for _ in range(rounds)])
    part.notes = [
        f"medians of paired differences over slices of {SLICE:,} events, {LIVE_RUNS:,} live runs, 38 % tool calls",
        "each beside a policy with one cap and what is always on; processor time",
    ]
    return part


def policies() -> dict[str, Policy]:
    """Rule -> the base with it; "all defaults" for all together."""
    found = {}
    for table, detector in REGISTRY.items():
        if detector.defaults and not detector.always_on and detector.name not in found:
            found[detector.name] = read_policy({**BASE, table: [dict(rule) for rule in detector.defaults]})
    return {**found, "all defaults": read_policy({**BASE, "include_defaults": True})}


def added_us(name: str, count: int) -> float:
    """Microseconds of processor time that the rule adds to an event."""
    opening, events = _events(count)
    without, beside = Engine(read_policy(BASE)), Engine(policies()[name])
    for engine in (without, beside):
        _take(engine, opening)
    gc.collect()
    gc.freeze()
    gc.disable()
    differences = []
    for number, at in enumerate(range(0, len(events) - SLICE + 1, SLICE)):
        slice_ = events[at : at + SLICE]
        order = (without, beside) if number % 2 else (beside, without)
        took = {id(engine): _timed(engine, slice_) for engine in order}
        differences.append((took[id(beside)] - took[id(without)]) / SLICE * 1e6)
    return statistics.median(differences)


def _events(count: int) -> tuple[Events, Events]:
    warm_up = WARM_UP * LIVE_RUNS
    load = UsageLoad(Shape(NEW_HOUR_MS - (warm_up + count // 2) * 1000 // EVENT_RATE, EVENT_RATE, LIVE_RUNS))
    opening = [(decode_usage(event.value), event.ts_ms) for event in _opening(load, warm_up)]
    return opening, [(decode_usage(event.value), event.ts_ms) for event in load.events(count)]


def _opening(load: UsageLoad, warm_up: int) -> Iterator[Any]:
    yield from load.opening()
    yield from load.events(warm_up)


def _take(engine: Engine, events: Events) -> None:
    for message, append_ms in events:
        engine.usage(message, append_ms)
    engine.drain_rows()
    engine.drain_effects()


def _timed(engine: Engine, events: Events) -> float:
    started = time.process_time()
    for message, append_ms in events:
        engine.usage(message, append_ms)
    took = time.process_time() - started
    engine.drain_rows()
    engine.drain_effects()
    return took
