"""The gateway under load: questions of guards, usage of 1 KB beside them, and from a cause to a call that is denied."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import redirect_stdout
from io import StringIO
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import aiohttp
from spendfuse import connect

from streams.settings import Settings
from streams.tools.access_keys import run_create
from tests.bench.broker import bench_broker, broker_note, fresh_topics
from tests.bench.engine import policy_file
from tests.bench.latency import POLICY, warm_up
from tests.bench.machine import ANY_CORE, cpu_seconds
from tests.bench.report import Part, percentile
from tests.bench.worker_process import WorkerProcess
from tests.support.gateway_process import GatewayProcess

CHECKS_PER_S = 1_000
EVENTS_PER_S = 2_000
EVENTS_A_REQUEST = 20
MOST_A_REQUEST = 500
CONNECTIONS = 32
RUNS = 500
WARM_UP_S = 3
CAUSES = 100
COST_USD = 41
"""Above the cap of a run in the bench's policies."""
TIMEOUT_S = 60.0
FILLER = "x" * 100


class Offered(NamedTuple):
    """What became of requests that were sent when they were due."""

    waits_ms: list[float]
    failed: int
    took_s: float


class _World(NamedTuple):
    gateway: GatewayProcess
    token: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.gateway_port}"


def measure(seconds: int, rounds: int) -> Part:
    """Guards alone, guards with usage beside them, usage alone as fast as it goes, and the way of a kill."""
    part = Part("gateway", "guards and usage over HTTP, one gateway; from when a request is due to its answer")
    with bench_broker(ANY_CORE) as bootstrap, TemporaryDirectory() as spool:
        part.notes = [broker_note(ANY_CORE), f"{CONNECTIONS} connections; events of {len(_event(0, 0)):,} bytes"]
        warm_up(bootstrap)
        found = [_round(bootstrap, Path(spool) / str(number), seconds) for number in range(rounds)]
    for name, unit in found[0]:
        part.add(name, unit, [each[name, unit] for each in found])
    part.notes.append("nothing is pinned: broker, worker, gateway and clients share all cores")
    part.notes.append(f"{CAUSES} causes, one after the other: emit() of the causing event to the run's stop signal")
    return part


def _round(bootstrap: str, spool: Path, seconds: int) -> dict[tuple[str, str], float]:
    with fresh_topics(bootstrap) as prefix:
        token = new_key(bootstrap, prefix)
        with (
            WorkerProcess(bootstrap, prefix, policy_file(POLICY), ANY_CORE),
            GatewayProcess(bootstrap, prefix, spool, ENGINE_KEY=None) as gateway,  # the bench's worker signs nothing
        ):
            gateway.wait_ready()
            world = _World(gateway, token)
            return {
                **_denied(world),
                **_guards(world, seconds, beside=False),
                **_guards(world, seconds, beside=True),
                **_as_fast_as_it_goes(world, seconds),
            }


def _guards(world: _World, seconds: int, *, beside: bool) -> dict[tuple[str, str], float]:
    """Questions at a rate; with usage beside them, at a rate as well."""
    before_s, started_s = cpu_seconds(world.gateway.process.pid), time.monotonic()
    with _Elsewhere(_ask, world, seconds) as guards:
        usage = None
        if beside:
            with _Elsewhere(_send, world, seconds) as sending:
                usage = sending.result()
        asked = guards.result()
    busy = (cpu_seconds(world.gateway.process.pid) - before_s) / (time.monotonic() - started_s)
    what = f"{CHECKS_PER_S:,} checks/s{f' beside {EVENTS_PER_S:,} events/s' if beside else ''}"
    told = {
        (f"{what}: p50", "ms"): percentile(asked.waits_ms, 0.5),
        (f"{what}: p99", "ms"): percentile(asked.waits_ms, 0.99),
        (f"{what}: failed", "requests"): float(asked.failed),
        (f"{what}: gateway's core used", "share"): busy,
    }
    if usage is not None:
        sent = len(usage.waits_ms) * EVENTS_A_REQUEST / usage.took_s
        told |= {
            ("usage beside them: accepted", "events/s"): sent,
            ("usage beside them: p99 of a request", "ms"): percentile(usage.waits_ms, 0.99),
            ("usage beside them: failed", "requests"): float(usage.failed),
        }
    return told


def _as_fast_as_it_goes(world: _World, seconds: int) -> dict[tuple[str, str], float]:
    with _Elsewhere(_flood, world, seconds) as flooding:
        flood = flooding.result()
    accepted = len(flood.waits_ms) * MOST_A_REQUEST / flood.took_s
    return {(f"usage alone, {MOST_A_REQUEST} a request, 4 connections", "events/s"): accepted}


def _denied(world: _World) -> dict[tuple[str, str], float]:
    """From a cause over HTTP to the stop signal, with the client's own emitter and guard."""
    waits_ms: list[float] = []
    with connect(world.url, key=world.token) as connection:
        assert connection.guard.wait_ready(TIMEOUT_S), connection.guard.waiting_for
        for number in range(CAUSES):
            run = connection.run(run_id=f"cause-{number}", workflow=f"flow-{number % 50}").start()
            started_s = time.monotonic()
            run.llm_call(model="gpt-4.1", provider="openai", input_tokens=1, cost_usd=COST_USD)
            if run.stop_event.wait(TIMEOUT_S):
                waits_ms.append(1000 * (time.monotonic() - started_s))
            run.finish("killed")
    return {
        ("cause to denied call: p50", "ms"): percentile(waits_ms, 0.5),
        ("cause to denied call: p99", "ms"): percentile(waits_ms, 0.99),
        ("cause to denied call: never denied", "causes"): float(CAUSES - len(waits_ms)),
    }


class _Elsewhere:
    """A load from a process of its own, so that it does not wait for the bench."""

    def __init__(self, load: Callable[[str, str, int], Awaitable[Offered]], world: _World, seconds: int) -> None:
        context = get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(load, world.url, world.token, seconds, theirs), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.join(TIMEOUT_S)
        self._process.terminate()

    def result(self) -> Offered:
        offered: Offered = self._ours.recv()
        return offered


def _run(load: Callable[[str, str, int], Any], url: str, token: str, seconds: int, pipe: Pipe) -> None:
    pipe.send(asyncio.run(load(url, token, seconds)))


async def _ask(url: str, token: str, seconds: int) -> Offered:
    bodies = [
        json.dumps({"run_id": f"run-{number}", "workflow": f"flow-{number % 50}", "model": "gpt-4.1"}).encode()
        for number in range(RUNS)
    ]
    return await _offer(f"{url}/v1/guard/check", token, lambda number: bodies[number % RUNS], CHECKS_PER_S, seconds)


async def _send(url: str, token: str, seconds: int) -> Offered:
    def body(number: int) -> bytes:
        return b"\n".join(_event(number, index) for index in range(EVENTS_A_REQUEST))

    return await _offer(f"{url}/v1/events", token, body, EVENTS_PER_S // EVENTS_A_REQUEST, seconds)


async def _offer(url: str, token: str, body: Callable[[int], bytes], rate: int, seconds: int) -> Offered:
    """Send requests when they are due, spread over connections; the first seconds do not count.

    Bare HTTP: a client that costs more than what is measured would be what is measured.
    """
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\nContent-Length: ".encode()
    waits_ms: list[float] = []
    failed = 0
    start_s = time.monotonic() + 0.5

    async def connection(first: int) -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for number in range(first, rate * (WARM_UP_S + seconds), CONNECTIONS):
            due_s = start_s + number / rate
            if (ahead_s := due_s - time.monotonic()) > 0:
                await asyncio.sleep(ahead_s)
            sent = body(number)
            writer.write(b"%b%d\r\n\r\n%b" % (head, len(sent), sent))
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            if number >= rate * WARM_UP_S:
                failed += not answer.startswith(b"HTTP/1.1 200")
                waits_ms.append(1000 * (time.monotonic() - due_s))
        writer.close()

    await asyncio.gather(*(connection(first) for first in range(CONNECTIONS)))
    return Offered(waits_ms, failed, time.monotonic() - start_s - WARM_UP_S)


async def _flood(url: str, token: str, seconds: int) -> Offered:
    """Requests one after the other on each of four connections."""
    waits_ms: list[float] = []
    async with _session(token) as session:
        start_s = time.monotonic()

        async def client(name: int) -> None:
            number = 0
            while time.monotonic() < start_s + seconds:
                number += 1
                body = b"\n".join(_event(1_000_000 * (name + 1) + number, index) for index in range(MOST_A_REQUEST))
                sent_s = time.monotonic()
                if await _post(session, f"{url}/v1/events", body):
                    waits_ms.append(1000 * (time.monotonic() - sent_s))

        await asyncio.gather(*(client(name) for name in range(4)))
    return Offered(waits_ms, 0, time.monotonic() - start_s)


async def _post(session: aiohttp.ClientSession, url: str, body: bytes) -> bool:
    """Whether it was answered with 200."""
    try:
        async with session.post(url, data=body) as answer:
            await answer.read()
    except aiohttp.ClientError:
        return False
    return answer.status == 200


def _session(token: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"})


def _event(number: int, index: int) -> bytes:
    """A model call of 1 KB."""
    run = (number * EVENTS_A_REQUEST + index) % RUNS
    fields = {
        "type": "llm_call", "event_id": f"bench-{number}-{index}", "ts_ms": int(time.time() * 1000),
        "run_id": f"run-{run}", "workflow": f"flow-{run % 50}", "owner": "team-bench", "model": "gpt-4.1",
        "provider": "openai", "input_tokens": 1_200, "output_tokens": 90, "cost_nanousd": 1_000, "latency_ms": 800,
        "tags": {f"tag-{name}": FILLER for name in range(6)},
    }  # fmt: skip
    return json.dumps(fields, separators=(",", ":")).encode()


def new_key(bootstrap: str, prefix: str) -> str:
    """A key of acme's that may report and ask."""
    printed = StringIO()
    with redirect_stdout(printed):
        run_create(
            Settings(kafka_bootstrap=bootstrap, prefix=prefix, operator_name="bench"),
            "acme",
            ("ingest", "guard"),
            "bench",
        )
    return printed.getvalue().strip()
