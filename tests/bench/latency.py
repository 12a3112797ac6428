"""From a cause to its command: an event passes a run's cap, and a read_committed consumer sees the kill.

    python -m tests.bench latency [--home FOLDER] [--beside FOLDER] [--policy NAME OR FILE]

For "not slower than before": give as `--beside` a checkout of the commit before. Both take turns on one broker, each
under its own `plain` policy, or both under a file that both can read. What `make compiled` has built is
`build/compiled`.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition

from infra.service import ROOT
from schemas.codec import decode_command
from schemas.signing import is_key_check
from schemas.topics import topic_name
from tests.bench.broker import bench_broker, broker_note, fast_producer, fill, fresh_topics, send
from tests.bench.engine import describe
from tests.bench.load import Event, Shape, UsageLoad
from tests.bench.machine import ANY_CORE
from tests.bench.report import Part, percentile
from tests.bench.worker_process import Sample, Side, WorkerProcess, side, step_names

POLICY = "plain"
LIVE_RUNS = 5_000
CAUSES_PER_S = 10
COST_NANOUSD = 41 * 10**9
"""Above the cap of a run in the bench's policies."""
WARM_UP_S = 5
"""How long a rate is offered before the first cause."""
BROKER_WARM_UP_S = 90
"""How long a new broker commits transactions before anything is measured. Its Java is slow until it is compiled: at
1,000 events/s, commands took 153 ms (p99) in a broker's first half minute and 38 ms after a minute and a half.
"""
WARM_UP_RATE = 1_000
TIMEOUT_S = 60.0
TURN_S = 0.001
"""What is due within so long is sent at once. Looking at the clock for each event cost nearly a core at 10,000
events/s, of two that the worker and the broker need as well.
"""
SETTLE_S = 2.0
"""How long commands may still arrive after the last event."""


class Planned(NamedTuple):
    """An event and when it is to be sent."""

    event: Event
    due_s: float
    """Seconds after the first one."""
    cause_id: str | None


class Round(NamedTuple):
    """One run at one rate."""

    waits_ms: list[float]
    offered_per_s: float
    unanswered: int
    batch_ms: float
    """Mean of the worker's batches, from taking one to its commit."""
    steps_ms: dict[str, float]
    """Step of the loop -> milliseconds per batch."""
    busy: float
    """Share of its core that the worker used."""


def measure(sides: Sequence[Side], rates: Sequence[int], seconds: int, rounds: int) -> Part:
    """Offer each rate for some seconds, each time to a new worker of each side in turn."""
    part = Part("latency", "from produce() of the causing event to the command at a read_committed consumer")
    with bench_broker(ANY_CORE) as bootstrap:
        part.notes = [broker_note(ANY_CORE), describe(POLICY)]
        warm_up(bootstrap)
        for rate in rates:
            found: dict[Side, list[Round]] = {one: [] for one in sides}
            for _ in range(rounds):
                for one in sides:
                    found[one].append(_run_round(bootstrap, one, rate, seconds))
            base: dict[str, float] = {}
            for one, ours in found.items():
                _fill_in(part, f"{rate:,} events/s" + (f", {one.title}" if len(sides) > 1 else ""), ours, base)
    part.notes.append(f"{CAUSES_PER_S * seconds} causes a round, after {WARM_UP_S} s without")
    part.notes.append(f"the broker was warmed up for {BROKER_WARM_UP_S} s; the producer waits 1 ms to fill batches")
    part.notes.append("nothing is pinned: broker, worker, producer and consumer share all cores")
    return part


def _fill_in(part: Part, label: str, found: Sequence[Round], base: dict[str, float]) -> None:
    figures = {
        name: ("ms", [percentile(each.waits_ms, share) for each in found])
        for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    } | {
        "sent": ("events/s", [each.offered_per_s for each in found]),
        "worker's mean batch": ("ms", [each.batch_ms for each in found]),
        **{f"step {step}": ("ms/batch", [each.steps_ms[step] for each in found]) for step in found[0].steps_ms},
        "worker's core used": ("share", [each.busy for each in found]),
        "no command seen": ("causes", [each.unanswered for each in found]),
    }
    part.add_side(label, figures, base)


def warm_up(bootstrap: str) -> None:
    """Have a new broker work for a while, as one in use has."""
    with fresh_topics(bootstrap) as prefix, _worker(bootstrap, prefix, side(ROOT, POLICY)):
        load = UsageLoad(Shape(int(time.time() * 1000), WARM_UP_RATE, LIVE_RUNS))
        events = load.events(WARM_UP_RATE * BROKER_WARM_UP_S)
        plan = [Planned(event, number / WARM_UP_RATE, None) for number, event in enumerate(events)]
        offer(bootstrap, topic_name(prefix, "usage.v1"), plan)


def _run_round(bootstrap: str, one: Side, rate: int, seconds: int) -> Round:
    with fresh_topics(bootstrap) as prefix, _worker(bootstrap, prefix, one) as worker:
        load = UsageLoad(Shape(int(time.time() * 1000), rate, LIVE_RUNS))
        opening = fill(bootstrap, prefix, load.opening())
        before = worker.watch(lambda sample: sample.applied >= opening, TIMEOUT_S)[-1]
        with _watcher(bootstrap, topic_name(prefix, "control.v1")) as connection:
            plan = list(_plan(load, rate, seconds))
            sent, took_s = offer(bootstrap, topic_name(prefix, "usage.v1"), plan)
            after = worker.watch(lambda _: True, TIMEOUT_S)[-1]
            time.sleep(SETTLE_S)
            connection.send("enough")
            seen: dict[str, float] = connection.recv()
    waits = [1000 * (seen[cause] - at_s) for cause, at_s in sent.items() if cause in seen]
    batches = max(1.0, after.grown(before, "spendfuse_batch_seconds_count"))
    return Round(
        waits,
        len(plan) / took_s,
        len(sent) - len(waits),
        1000 * after.grown(before, "spendfuse_batch_seconds_sum") / batches,
        {step: 1000 * after.grown(before, name) / batches for name, step in step_names(after).items()},
        _busy(before, after),
    )


def _worker(bootstrap: str, prefix: str, one: Side) -> WorkerProcess:
    """Like everything in this part, free to run on any core: pinned together, broker, producer and consumer would be
    waiting for each other, and not for the worker.
    """
    return WorkerProcess(bootstrap, prefix, one.policy, ANY_CORE, home=one.home)


def _busy(before: Sample, after: Sample) -> float:
    return (after.cpu_s - before.cpu_s) / (after.at_s - before.at_s)


def _plan(load: UsageLoad, rate: int, seconds: int) -> Iterator[Planned]:
    """Everything that will be sent, made beforehand, so that sending costs little."""
    every = rate // CAUSES_PER_S
    for number, event in enumerate(load.events(rate * (WARM_UP_S + seconds))):
        if number >= rate * WARM_UP_S and number % every == every // 2:
            cause = load.over_its_cap(number, COST_NANOUSD, event.ts_ms)
            yield Planned(cause, number / rate, f"cause-{number}")
        else:
            yield Planned(event, number / rate, None)


def offer(bootstrap: str, topic: str, plan: Sequence[Planned]) -> tuple[dict[str, float], float]:
    """Send everything when it is due. Returns when each cause was produced, on the monotonic clock, and how long all
    of it took in seconds.
    """
    producer = fast_producer(bootstrap, linger_ms=1)
    sent: dict[str, float] = {}
    start_s = time.monotonic()
    for event, due_s, cause_id in plan:
        if start_s + due_s > time.monotonic():
            producer.poll(0)
            time.sleep(max(0.0, start_s + due_s - time.monotonic(), TURN_S))
        if cause_id is not None:
            sent[cause_id] = time.monotonic()
        send(producer, topic, event)
    took_s = time.monotonic() - start_s
    producer.flush(TIMEOUT_S)
    return sent, took_s


@contextmanager
def _watcher(bootstrap: str, topic: str) -> Iterator[Connection]:
    """A process that notes when each command is seen. It is ready when this returns; tell it anything to get its
    answer: cause -> time on the monotonic clock, which all processes share.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_watch, args=(bootstrap, topic, theirs), daemon=True)
    process.start()
    try:
        ours.recv()
        yield ours
    finally:
        process.terminate()
        process.join()


def _watch(bootstrap: str, topic: str, connection: Connection) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench-watcher",
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 5,
            "log_level": 2,
        }
    )
    _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
    consumer.assign([TopicPartition(topic, 0, end)])
    seen: dict[str, float] = {}
    connection.send("ready")
    while not connection.poll():
        message = consumer.poll(0.02)
        if message is None or message.error() is not None or is_key_check(message.key()):
            continue
        cause_id = decode_command(message.value()).cause_event_id
        if cause_id is not None:
            seen.setdefault(cause_id, time.monotonic())
    connection.send(seen)
    consumer.close()
