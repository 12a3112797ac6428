"""From a cause to Slack: an event passes a run's cap, and a request to Slack says so; alone, and amid warnings."""

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

from confluent_kafka import Producer

from schemas.codec import encode
from schemas.topics import topic_name
from tests.bench.broker import bench_broker, broker_note, fast_producer, fill, fresh_topics
from tests.bench.engine import policy_file
from tests.bench.latency import (
    BROKER_WARM_UP_S,
    COST_NANOUSD,
    SETTLE_S,
    TIMEOUT_S,
    WARM_UP_S,
    Planned,
    offer,
    warm_up,
)
from tests.bench.load import Shape, UsageLoad
from tests.bench.machine import ANY_CORE
from tests.bench.report import Part, percentile
from tests.bench.worker_process import WorkerProcess
from tests.support.alerting_process import AlertingProcess
from tests.support.receivers import slack
from tests.support.telling import alert

RATE_PER_S = 1_000
LIVE_RUNS = 5_000
CHANNELS = 6
"""One message a second is what a channel takes, so that the causes are spread over several."""
CAUSES_PER_S = 2
WARNINGS = 1_000
PAGES = 20
_NAMED = re.compile(r"over-its-cap-0*(\d+)|page-(\d+)")
_ROUTES = """
[receivers.chat-{number}]
type = "slack"
channel = "#chat-{number}"

[[route]]
match = {{ tenant_id = "chat-{number}" }}
receivers = ["chat-{number}"]
group_by = ["owner"]
group_wait_seconds = 30
"""


def measure(seconds: int, rounds: int) -> Part:
    """From cause to request at a given rate of events, then with a thousand warnings to the same channels."""
    part = Part("telling", "from produce() of the causing event to the request at Slack")
    with bench_broker(ANY_CORE) as bootstrap, TemporaryDirectory() as folder:
        part.notes = [
            broker_note(ANY_CORE),
            "worker, alerting, broker, producer and a Slack on loopback share all cores",
        ]
        policy = Path(folder) / "policy.toml"
        routes = "".join(_ROUTES.format(number=number) for number in range(CHANNELS))
        policy.write_text(policy_file("plain").read_text(encoding="utf-8") + routes, encoding="utf-8")
        warm_up(bootstrap)
        found = [_from_cause(bootstrap, policy, seconds) for _ in range(rounds)]
        for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
            part.add(f"{RATE_PER_S:,} events/s: {name}", "ms", [percentile(waits, share) for waits in found])
        pairs = [_amid_warnings(bootstrap, policy) for _ in range(rounds)]
        alone = part.add("critical alert to Slack, alone: p50", "ms", [percentile(pair[0], 0.5) for pair in pairs])
        amid = [percentile(pair[1], 0.5) for pair in pairs]
        part.add(f"critical alert to Slack, amid {WARNINGS:,} warnings: p50", "ms", amid, alone.median)
        part.add(f"messages for {WARNINGS:,} warnings of one owner", "messages", [pair[2] for pair in pairs])
    part.notes.append(f"{CAUSES_PER_S * seconds} causes a round over {CHANNELS} channels, after {WARM_UP_S} s without")
    part.notes.append(f"the broker was warmed up for {BROKER_WARM_UP_S} s")
    return part


def _from_cause(bootstrap: str, policy: Path, seconds: int) -> list[float]:
    """Milliseconds from each cause to the request that tells of it."""
    with fresh_topics(bootstrap) as prefix, _slack() as (url, connection):
        with WorkerProcess(bootstrap, prefix, policy, ANY_CORE) as worker, _alerting(bootstrap, prefix, policy, url):
            load = UsageLoad(Shape(int(time.time() * 1000), RATE_PER_S, LIVE_RUNS))
            opening = fill(bootstrap, prefix, load.opening())
            worker.watch(lambda sample: sample.applied >= opening, TIMEOUT_S)
            sent, _ = offer(bootstrap, topic_name(prefix, "usage.v1"), list(_plan(load, seconds)))
            time.sleep(SETTLE_S)
        connection.send("enough")
        seen: dict[int, float] = connection.recv()[0]
    waits = [1000 * (seen[number] - at_s) for name, at_s in sent.items() if (number := int(name[6:])) in seen]
    if len(waits) < len(sent):
        raise AssertionError(f"{len(sent) - len(waits)} of {len(sent)} causes were not told")
    return waits


def _plan(load: UsageLoad, seconds: int) -> Iterator[Planned]:
    every, first = RATE_PER_S // CAUSES_PER_S, RATE_PER_S * WARM_UP_S
    for number, event in enumerate(load.events(first + RATE_PER_S * seconds)):
        if number >= first and number % every == every // 2:
            tenant = f"chat-{number // every % CHANNELS}"
            cause = load.over_its_cap(number, COST_NANOUSD, event.ts_ms, tenant)
            yield Planned(cause, number / RATE_PER_S, f"cause-{number}")
        else:
            yield Planned(event, number / RATE_PER_S, None)


def _amid_warnings(bootstrap: str, policy: Path) -> tuple[list[float], list[float], int]:
    """Milliseconds from a critical alert's write to its request: alone, then amid warnings; and what those became."""
    with fresh_topics(bootstrap) as prefix, _slack() as (url, connection), _alerting(bootstrap, prefix, policy, url):
        producer, topic = fast_producer(bootstrap, linger_ms=1), topic_name(prefix, "alerts.v1")
        written: dict[int, float] = {}
        for number in range(PAGES):
            _page(producer, topic, number, written)
        for number in range(PAGES, 2 * PAGES):
            for warning in range(WARNINGS // PAGES):
                _write(producer, topic, f"warning-{number}-{warning}", 0.8)
            _page(producer, topic, number, written)
        time.sleep(30 + SETTLE_S)  # until what is gathered has been told
        connection.send("enough")
        seen, others = connection.recv()
    waits = [1000 * (seen[number] - written[number]) for number in range(2 * PAGES)]
    return waits[:PAGES], waits[PAGES:], others


def _page(producer: Producer, topic: str, number: int, written: dict[int, float]) -> None:
    """Write something critical; the next comes when its channel may be spoken to again."""
    written[number] = time.monotonic()
    _write(producer, topic, f"page-{number}", 1.0)
    producer.flush(TIMEOUT_S)
    time.sleep(1.3)


def _write(producer: Producer, topic: str, incident: str, level: float) -> None:
    about = alert(incident, level, tenant_id="chat-0", at_ms=int(time.time() * 1000), scope={"incident": incident})
    producer.produce(topic, encode(about), b"chat-0")


@contextmanager
def _alerting(bootstrap: str, prefix: str, policy: Path, url: str) -> Iterator[None]:
    """An alerting process that has its partition."""
    settings = {"SLACK_URL": f"{url}/api/", "SLOT": "bench", "LOG_LEVEL": "WARNING"}
    with AlertingProcess(bootstrap, prefix, policy, {"SLACK_BOT_TOKEN": "xoxb-bench"}, **settings) as process:
        process.wait_owning(1)
        yield
        process.stop()


@contextmanager
def _slack() -> Iterator[tuple[str, Connection]]:
    """A Slack in a process of its own. Tell it anything to get when each cause was told first, by its number on the
    monotonic clock that all processes share, and how many other messages there were.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_listen, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv(), ours
    finally:
        process.terminate()
        process.join()


def _listen(connection: Connection) -> None:
    asyncio.run(_serve(connection))


async def _serve(connection: Connection) -> None:
    seen: dict[int, float] = {}
    others = 0
    async with slack() as server:
        connection.send(server.url)
        read = 0
        while not connection.poll():
            try:
                await asyncio.wait_for(server.arrived.wait(), 0.05)
            except TimeoutError:
                continue
            server.arrived.clear()
            now_s = time.monotonic()
            for received in server.received[read:]:
                found = _NAMED.search(received.body.decode())
                if found is None or b"warning-" in received.body:
                    others += 1
                else:
                    seen.setdefault(int(found[1] or found[2]), now_s)
            read = len(server.received)
    connection.send((seen, others))
