"""From a cause to its command: an event passes a run's cap, and a read_committed consumer sees the kill."""

import time
from collections.abc import Sequence
from contextlib import contextmanager
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition

from schemas.codec import decode_command
from schemas.topics import topic_name
from tests.bench.broker import bench_broker, broker_note, fast_producer, fill, fresh_topics, send
from tests.bench.engine import describe, policy_file
from tests.bench.load import Event, Shape, UsageLoad
from tests.bench.machine import OTHER_CORE, on_core
from tests.bench.report import Part, percentile
from tests.bench.worker_process import WorkerProcess

POLICY = "plain"
LIVE_RUNS = 5_000
CAUSES_PER_S = 10
COST_NANOUSD = 41 * 10**9
"""Above the cap of a run in the bench's policies."""
LEAD_MS = 500
TIMEOUT_S = 60.0
SETTLE_S = 2.0
"""How long commands may still arrive after the last event."""


class Planned(NamedTuple):
    """An event and when it is to be sent."""

    event: Event
    due_s: float
    is_cause: bool


class Round(NamedTuple):
    """One run at one rate."""

    waits_ms: list[float]
    offered_per_s: float
    unanswered: int


def measure(rates: Sequence[int], seconds: int, rounds: int) -> Part:
    """Offer each rate for some seconds, each time to a new worker."""
    part = Part("latency", "from produce() of the causing event to the command at a read_committed consumer")
    with bench_broker() as bootstrap:
        part.notes = [broker_note(), describe(POLICY)]
        for rate in rates:
            found = [_run_round(bootstrap, rate, seconds) for _ in range(rounds)]
            for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
                waits = [percentile(each.waits_ms, share) for each in found]
                part.add(f"{rate:,} events/s offered: {name}", "ms", waits)
            part.add(f"{rate:,} events/s offered: sent", "events/s", [each.offered_per_s for each in found])
            part.add(f"{rate:,} events/s offered: no command seen", "causes", [each.unanswered for each in found])
    part.notes.append(
        f"{CAUSES_PER_S * seconds} causes a round; the producer waits 1 ms to fill batches, broker, producer and "
        "consumer share one core"
    )
    return part


def _run_round(bootstrap: str, rate: int, seconds: int) -> Round:
    with fresh_topics(bootstrap) as prefix, WorkerProcess(bootstrap, prefix, policy_file(POLICY)) as worker:
        load = UsageLoad(Shape(int(time.time() * 1000), rate, LIVE_RUNS))
        opening = fill(bootstrap, prefix, load.opening())
        worker.watch(lambda sample: sample.applied >= opening, TIMEOUT_S)
        with on_core(OTHER_CORE), _watcher(bootstrap, topic_name(prefix, "control.v1")) as connection:
            plan, start_ms = _plan(rate, seconds)
            sent, took_s = _offer(bootstrap, topic_name(prefix, "usage.v1"), plan)
            time.sleep(SETTLE_S)
            connection.send("enough")
            seen: dict[str, float] = connection.recv()
    waits = [1000 * (seen[cause] - at_s) for cause, at_s in sent.items() if cause in seen]
    return Round(waits, len(plan) / took_s, len(sent) - len(waits))


def _plan(rate: int, seconds: int) -> tuple[list[Planned], int]:
    """Everything that will be sent, made beforehand, with event times that will then be the present."""
    raise NotImplementedError
