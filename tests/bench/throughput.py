"""The whole worker on a full log: real Kafka in and out, exactly once, one core.

    python -m tests.bench worker [--beside FOLDER] [--policy NAME OR FILE]

With the checkout of an earlier commit beside it, as in `latency`.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from infra.compiled.build import HOME, build
from infra.service import ROOT
from tests.bench.broker import bench_broker, broker_note, fill, fresh_topics, start_across_an_hour
from tests.bench.engine import EVENT_RATE, POLICIES, describe
from tests.bench.load import Shape, UsageLoad
from tests.bench.report import Part
from tests.bench.worker_process import Sample, Side, WorkerProcess, side, step_names

RUN_TIMEOUT_S = 240.0
LIVE_RUNS = 5_000


class Speed(NamedTuple):
    """How one worker went through one log."""

    events_per_s: float
    cpu_s_per_million: float
    steps_us: dict[str, float]
    """Step of the loop -> microseconds per event."""
    rows_per_event: float
    events_per_batch: float


def measure(events: int, rounds: int, policies: Sequence[str], beside: Path | None) -> Part:
    """Every policy over the same log, round by round: another checkout's worker, this one's, and this one compiled."""
    part = Part("worker", "the worker, exactly once, one partition, one core; from the first commit to the last")
    compiled = compiled_home()
    homes = [home for home in (beside, ROOT, compiled) if home is not None]
    found: dict[str, dict[Side, list[Speed]]] = {
        policy: {side(home, policy): [] for home in homes} for policy in policies
    }
    with bench_broker() as bootstrap:
        for _ in range(rounds):
            for speeds in found.values():
                for one in speeds:
                    speeds[one].append(run_round(bootstrap, one, events))
        part.notes = [broker_note(), *(describe(policy) for policy in policies if policy in POLICIES)]
    for speeds in found.values():
        _fill_in(part, speeds)
    part.notes += [
        f"{events:,} events a round, {LIVE_RUNS:,} live runs, {EVENT_RATE:,} events/s of event time, one hour change",
        "processor: user and system time of the whole process, librdkafka's threads included",
        "ratio: to the first worker under this policy",
    ]
    return part


def _fill_in(part: Part, speeds: Mapping[Side, Sequence[Speed]]) -> None:
    base: dict[str, float] = {}
    for one, found in speeds.items():
        figures = {
            "throughput": ("events/s", [each.events_per_s for each in found]),
            "processor": ("s/million", [each.cpu_s_per_million for each in found]),
            **{f"step {step}": ("us/event", [each.steps_us[step] for each in found]) for step in found[0].steps_us},
            "rows": ("per event", [each.rows_per_event for each in found]),
            "batch": ("events", [each.events_per_batch for each in found]),
        }
        part.add_side(one.title, figures, base)


def compiled_home() -> Path | None:
    """A fresh compiled copy of the service, None where there is no C compiler."""
    if shutil.which("cc") is None:
        return None
    build(HOME)
    return HOME


def run_round(bootstrap: str, one: Side, events: int) -> Speed:
    """Write a log, let a new worker go through it, and say how fast it was."""
    with fresh_topics(bootstrap) as prefix:
        total = write_log(bootstrap, prefix, events)
        return _go_through(bootstrap, prefix, one, total)


def write_log(bootstrap: str, prefix: str, events: int) -> int:
    """Fill usage.v1; returns how many records it holds then."""
    load = UsageLoad(Shape(start_across_an_hour(events, EVENT_RATE), EVENT_RATE, LIVE_RUNS))
    return fill(bootstrap, prefix, load.opening()) + fill(bootstrap, prefix, load.events(events))


def _go_through(bootstrap: str, prefix: str, one: Side, total: int) -> Speed:
    """Let a worker that has no state yet go through the log."""
    with WorkerProcess(bootstrap, prefix, one.policy, home=one.home) as worker:
        samples = worker.watch(lambda sample: sample.applied >= total, RUN_TIMEOUT_S)
    working = [sample for sample in samples if sample.applied > 0]
    return _speed(working[0], working[-1])


def _speed(first: Sample, last: Sample) -> Speed:
    events = max(1, last.applied - first.applied)

    return Speed(
        events_per_s=events / max(1e-9, last.at_s - first.at_s),
        cpu_s_per_million=1e6 * (last.cpu_s - first.cpu_s) / events,
        steps_us={step: 1e6 * last.grown(first, name) / events for name, step in step_names(last).items()},
        rows_per_event=last.grown(first, "spendfuse_rows_total") / events,
        events_per_batch=events / max(1.0, last.grown(first, "spendfuse_batches_total")),
    )
