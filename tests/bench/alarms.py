"""How often the default policy is wrong, and what it finds: production-like traffic with and without planted faults.

Whatever detector is registered has a line in the table, by itself.
"""

import heapq
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random

from models.detectors import REGISTRY
from models.engine import Engine
from models.rules.policy import default_policy
from models.stimuli import OperatorSeen, Ticked
from schemas.alert import Alert
from schemas.operator import OperatorMessage
from tests.bench.machine import in_fresh_process
from tests.bench.report import Part
from tests.support.planted import FAULTS, order_for, slow_rise
from tests.support.production import Event, Production

DAYS = 28
FAULT_DAY = 22
"""A Tuesday, when everything that is seasonal has been seen: faults are planted into it."""
FAULT_DAYS = 2
DRAIN_EVERY = 2_000
PAGES = ("critical", "error")

Order = tuple[int, OperatorMessage]
"""When an operator says something, and what."""


@dataclass(slots=True)
class Told:
    """What was told of some traffic."""

    events: int = 0
    alerts: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """Incident -> detector, gravest severity, and what it said first."""

    def read(self, engine: Engine) -> None:
        """Take in what the engine has published since."""
        for effect in engine.drain_effects():
            alert = effect.value
            if isinstance(alert, Alert) and alert.state in ("open", "escalated"):
                _, severity, summary = self.alerts.get(alert.incident_id, ("", alert.severity, alert.summary))
                graver = severity if severity in PAGES else alert.severity
                self.alerts[alert.incident_id] = alert.detector, graver, summary

    def counts(self, *, pages: bool) -> Counter[str]:
        """Detector -> its incidents that would wake somebody, or that would not."""
        return Counter(name for name, severity, _ in self.alerts.values() if (severity in PAGES) == pages)


def measure(seeds: int, scale: float = 1.0, first: int = 1) -> Part:
    """False pages per million healthy events over so many seeds from `first` on, and what is found of each fault."""
    last = first + seeds - 1
    part = Part("alarms", f"the default policy over {DAYS} days of production-like traffic, seeds {first} to {last}")
    results = [in_fresh_process(run_seed, seed, scale) for seed in range(first, last + 1)]
    events = sum(told.events for told, _ in results)
    pages = sum((told.counts(pages=True) for told, _ in results), Counter[str]())
    notices = sum((told.counts(pages=False) for told, _ in results), Counter[str]())
    finders = [Counter(name for found in faults.values() for name in found) for _, faults in results]
    for name in detectors():
        part.add(f"{name}: false pages", "per million events", [1e6 * pages[name] / events])
        part.add(f"{name}: false notices", "per million events", [1e6 * notices[name] / events])
        part.add(f"{name}: faults it told of", "a seed", [float(found[name]) for found in finders])
    part.add("all: false pages", "per million events", [1e6 * pages.total() / events])
    part.add("all: false notices", "per million events", [1e6 * notices.total() / events])
    for fault in results[0][1]:
        found = [bool(faults[fault]) for _, faults in results]
        part.add(f"planted: {fault}", "share found", [sum(found) / len(found)])
        names = sorted({name for _, faults in results for name in faults[fault]})
        part.notes.append(f"{fault}: told by {', '.join(names) or 'nobody'}")
    part.notes.append(f"{events:,} healthy events; a page is an incident of severity {' or '.join(PAGES)}")
    for told, _ in results:
        part.notes += [f"false: {name} {severity}: {summary}" for name, severity, summary in told.alerts.values()]
    return part


def detectors() -> list[str]:
    """Every registered detector."""
    return list(dict.fromkeys(detector.name for detector in REGISTRY.values()))


def run_seed(seed: int, scale: float) -> tuple[Told, dict[str, set[str]]]:
    """The healthy traffic of a seed, and each fault planted into it -> the detectors that told of it."""
    engine, told, rows = Engine(default_policy()), Told(), dict[bytes, bytes]()
    live(engine, Production(seed, scale=scale).days(0, FAULT_DAY), told, rows)
    after = list(Production(1_000 + seed, scale=scale, name="late").days(FAULT_DAY, FAULT_DAY + FAULT_DAYS))
    known = dict(rows)
    live(engine, after, told, rows)
    faults = {fault: planted(fault, seed, known, after, told.alerts) for fault in FAULTS}
    rest = Production(2_000 + seed, scale=scale, name="last").days(FAULT_DAY + FAULT_DAYS, DAYS)
    live(engine, rest, told, rows)
    slow = Told()
    live(Engine(default_policy()), slow_rise(seed), slow, {})
    return told, {**faults, "runs cost 2 % more every day": {name for name, *_ in slow.alerts.values()}}


def planted(
    fault: str, seed: int, rows: Mapping[bytes, bytes], healthy: list[Event], known: Container[str]
) -> set[str]:
    """The detectors that told of a fault: of an incident that is not `known` from the same traffic without it."""
    with_it = Told()
    engine = Engine(default_policy())
    engine.restore(rows)
    added = sorted(FAULTS[fault](FAULT_DAY, Random(seed)), key=_when)
    live(engine, heapq.merge(healthy, added, key=_when), with_it, {}, order_for(fault, FAULT_DAY))
    return {name for incident, (name, *_) in with_it.alerts.items() if incident not in known}


def live(
    engine: Engine,
    events: Iterable[Event],
    told: Told,
    rows: dict[bytes, bytes],
    order: Order | None = None,
) -> None:
    """Give the engine what happens, and keep what it says and its rows."""
    for at_ms, message in events:
        if order is not None and at_ms >= order[0]:
            engine.handle(OperatorSeen(order[1], order[0]))
            order = None
        engine.usage(message, at_ms)
        told.events += 1
        if told.events % DRAIN_EVERY == 0:
            told.read(engine)
            _keep(rows, engine)
    engine.handle(Ticked(at_ms))
    told.read(engine)
    _keep(rows, engine)


def _keep(rows: dict[bytes, bytes], engine: Engine) -> None:
    for key, value in engine.drain_rows():
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value


def _when(event: Event) -> int:
    return event[0]
