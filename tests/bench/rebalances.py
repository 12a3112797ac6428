"""What rebalances and aborts leave behind: the memory of a worker that reads its state back again and again."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Consumer, Producer

from schemas.topics import topic_name
from tests.bench.broker import bench_broker, broker_note, fill, fresh_topics
from tests.bench.engine import describe, policy_file
from tests.bench.load import Event, Shape, UsageLoad
from tests.bench.report import Part
from tests.bench.worker_process import Sample, WorkerProcess
from tests.support.kafka import wait_until

POLICY = "plain"
TENANTS = 1_000
SPAN_S = 60
"""Event time between the first event and the last: less than the shortest time after which a run is forgotten."""
PARTITIONS = 2
TIMEOUT_S = 240.0
MB = 1e6
WARM_UP = 5
"""So many times the state is read back before growth is counted: pools of the interpreter and the clients fill."""


class Memory(NamedTuple):
    """Of the worker, in MB."""

    resident: float
    peak: float


class Bench(NamedTuple):
    """A worker with a state, and where it reads."""

    bootstrap: str
    prefix: str
    worker: WorkerProcess
    further: Iterator[Event]
    """Events that have not been written yet."""


def measure(runs: int, times: int) -> Part:
    """Have a worker with that many live runs read its state back so many times, by rebalances and by aborts."""
    part = Part("rebalances", f"memory of a worker with {runs:,} live runs that reads its state back {times} times")
    with bench_broker() as bootstrap:
        for what, disturb in (("rebalances", _come_and_go), ("aborts", _fence)):
            found = _measured(bootstrap, runs, times, disturb)
            first, last = found[0], found[-1]
            part.add(f"{what}: resident after the first", "MB", [first.resident])
            part.add(f"{what}: after {len(found)}", "MB", [last.resident])
            part.add(f"{what}: growth of each, {WARM_UP} left out", "MB", [_slope([each.resident for each in found])])
            part.add(f"{what}: highest", "MB", [last.peak])
            part.notes.append(f"{what}: {' '.join(f'{each.resident:.0f}' for each in found)}")
        part.notes += [broker_note(partitions=PARTITIONS), describe(POLICY)]
    return part


def _measured(bootstrap: str, runs: int, times: int, disturb: Callable[[Bench], Iterator[None]]) -> list[Memory]:
    with fresh_topics(bootstrap, PARTITIONS) as prefix:
        start_ms = int(time.time() * 1000) - SPAN_S * 1000
        load = UsageLoad(Shape(start_ms, runs / SPAN_S, runs, TENANTS, skew=0.0))
        fill(bootstrap, prefix, load.opening())
        fill(bootstrap, prefix, load.events(runs))
        with WorkerProcess(bootstrap, prefix, policy_file(POLICY)) as worker:
            worker.watch(_has_caught_up, TIMEOUT_S)
            bench = Bench(bootstrap, prefix, worker, load.events(times + 1))
            return [memory_of(worker.pid) for _ in islice(disturb(bench), times)]


def _come_and_go(bench: Bench) -> Iterator[None]:
    """A member joins the worker's group and takes half of the partitions, and leaves again: two rebalances."""
    while True:
        guest = Consumer(
            {
                "bootstrap.servers": bench.bootstrap,
                "group.id": f"{bench.prefix}spendfuse-engine",
                "partition.assignment.strategy": "range",
                "enable.auto.commit": False,
                "fetch.min.bytes": 1_000_000,
            }
        )
        guest.subscribe([topic_name(bench.prefix, topic) for topic in ("usage.v1", "operator.v1")])
        try:
            wait_until(partial(_has_share, guest), TIMEOUT_S, "the guest has its share")
            bench.worker.watch(_owns(1), TIMEOUT_S)
            yield
        finally:
            guest.close()
        bench.worker.watch(_owns(PARTITIONS), TIMEOUT_S)
        yield


def _fence(bench: Bench) -> Iterator[None]:
    """Somebody takes the worker's transactional id; its next transaction is refused."""
    for aborts in count(1):
        rival = Producer({"bootstrap.servers": bench.bootstrap, "transactional.id": f"{bench.prefix}engine-bench"})
        rival.init_transactions(TIMEOUT_S)
        fill(bench.bootstrap, bench.prefix, [next(bench.further)])
        bench.worker.watch(partial(_has_aborted, aborts), TIMEOUT_S)
        yield


def _has_share(guest: Consumer) -> bool:
    guest.poll(0.1)
    return bool(guest.assignment())


def _has_aborted(times: int, sample: Sample) -> bool:
    return sample.numbers["spendfuse_aborts_total"] >= times and _has_caught_up(sample)


def _owns(partitions: int) -> Callable[[Sample], bool]:
    return lambda sample: sample.numbers.get("spendfuse_partitions", 0) == partitions and not _is_restoring(sample)


def _is_restoring(sample: Sample) -> bool:
    return sample.numbers.get("spendfuse_restoring", 0) > 0


def _has_caught_up(sample: Sample) -> bool:
    lags = [value for name, value in sample.numbers.items() if name.startswith("spendfuse_lag_records{")]
    return len(lags) == PARTITIONS and not any(lags) and not _is_restoring(sample)


def memory_of(pid: int) -> Memory:
    """What a process holds in RAM now, and at most so far."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    kb = {line.split()[0].rstrip(":"): int(line.split()[1]) for line in lines if line.startswith("Vm")}
    return Memory(kb["VmRSS"] * 1024 / MB, kb["VmHWM"] * 1024 / MB)


def _slope(values: list[float]) -> float:
    """How much a value grew on average from one to the next, the first few left out."""
    kept = values[WARM_UP:]
    return (kept[-1] - kept[0]) / (len(kept) - 1) if len(kept) > 1 else 0.0
