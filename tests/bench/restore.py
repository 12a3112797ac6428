"""A worker comes back after a power cut: how fast it reads a large state."""

import time
from typing import NamedTuple

from schemas.topics import topic_name
from tests.bench.broker import bench_broker, broker_note, end_offset, fill, fresh_topics
from tests.bench.engine import describe, policy_file
from tests.bench.load import Shape, UsageLoad
from tests.bench.report import Part
from tests.bench.worker_process import Sample, WorkerProcess

POLICY = "plain"
TENANTS = 1_000
SPAN_S = 60
"""Event time between the first event and the last: less than the shortest time after which a run is forgotten."""
TIMEOUT_S = 240.0


class Return(NamedTuple):
    """One restart."""

    rows: float
    seconds: float
    back_s: float
    """From the start of the process to the first partition owned."""


def measure(runs: int, rounds: int) -> Part:
    """Build a state of that many live runs, then kill and start the worker again and again."""
    part = Part("restore", f"restart after kill -9 with {runs:,} live runs")
    with bench_broker() as bootstrap, fresh_topics(bootstrap) as prefix:
        start_ms = int(time.time() * 1000) - SPAN_S * 1000
        load = UsageLoad(Shape(start_ms, runs / SPAN_S, runs, TENANTS, skew=0.0))
        total = fill(bootstrap, prefix, load.opening()) + fill(bootstrap, prefix, load.events(runs))
        with WorkerProcess(bootstrap, prefix, policy_file(POLICY)) as worker:
            worker.watch(lambda sample: sample.applied >= total, TIMEOUT_S)
            returns = [_restart(worker) for _ in range(rounds)]
        changelog = end_offset(bootstrap, topic_name(prefix, "state.v1"))
    part.add("restore rate", "rows/s", [each.rows / each.seconds for each in returns])
    part.add("rows", "rows", [each.rows for each in returns])
    part.add("restore", "s", [each.seconds for each in returns])
    part.add("process start to partition owned", "s", [each.back_s for each in returns])
    part.add("records ever written to the changelog", "records", [changelog])
    part.notes = [broker_note(), describe(POLICY)]
    return part


def _restart(worker: WorkerProcess) -> Return:
    worker.kill()
    started = time.monotonic()
    worker.start()
    last = worker.watch(_is_back, TIMEOUT_S)[-1]
    numbers = last.numbers
    return Return(numbers["spendfuse_restore_rows"], numbers["spendfuse_restore_seconds"], last.at_s - started)


def _is_back(sample: Sample) -> bool:
    return sample.numbers.get("spendfuse_partitions", 0) > 0 and sample.numbers.get("spendfuse_restore_seconds", 0) > 0
