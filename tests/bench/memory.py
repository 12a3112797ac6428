"""Memory per live run, per sleeping one and per scope: how much a fresh process grows when only their number does."""

import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path

from models.engine import Engine
from models.rules.policy import read_policy
from models.state.seen import SeenIds
from models.stimuli import Ticked, UsageSeen
from schemas.usage import LlmCall, RunStarted, ToolCall, UsageMessage
from tests.bench.engine import POLICIES, read_bench_policy
from tests.bench.machine import in_fresh_process, resident_bytes
from tests.bench.report import Part

HOUR_MS = 3_600_000
START_MS = 1_798_761_600_000
CALLS = 16
"""Per run: enough to fill its ring of signatures."""
ASLEEP_PER_LIVE = 10
"""So many times as many runs sleep in the measurement of those."""
WAVES = 50
"""Sleeping runs have lived in so many waves, so that what live ones leave behind is small beside them."""
WAVE_MS = 2 * HOUR_MS
"""From one wave to the next: the runs of one sleep before the next begins."""
TENANTS = 50
WORKFLOWS = 200
ACTIVE_HOURS = 168
CUTS = ("environment", "agent", "owner", "project")
DRAIN_EVERY = 100
"""Runs, and workflows, between two takings of rows: rows that pile up would count as if they stayed."""
SCOPES_DRAIN_EVERY = 10


def measure(runs: int, rounds: int) -> Part:
    """Bytes per run, live, restored and asleep, per remembered event, and per scope with a full history."""
    part = Part("memory", "growth of resident memory in a fresh process, pure engine")
    seen = part.add("event id remembered", "bytes", [in_fresh_process(seen_id_bytes, runs) for _ in range(rounds)])
    for policy in POLICIES:
        grown = [in_fresh_process(live_run_bytes, policy, runs) for _ in range(rounds)]
        without_ids = [each - (CALLS + 1) * seen.median for each in grown]
        part.add(f"{policy}: live run, {CALLS} calls old", "bytes", without_ids)
        part.add(f"{policy}: the same restored, not touched since", "bytes", _restored(policy, runs, rounds))
        asleep = [in_fresh_process(asleep_run_bytes, policy, runs * ASLEEP_PER_LIVE) for _ in range(rounds)]
        part.add(f"{policy}: a run asleep in the engine", "bytes", asleep)
    with_cuts = [in_fresh_process(scope_memory, len(CUTS)) for _ in range(rounds)]
    without = [in_fresh_process(scope_memory, 0) for _ in range(rounds)]
    scopes = WORKFLOWS * len(CUTS)
    part.add("scope, 7-day history full", "bytes", [(a - b) / scopes for a, b in zip(with_cuts, without, strict=True)])
    part.notes = [
        f"{runs:,} runs over {TENANTS} tenants; sessions, trees and timers are included, ids of counted events are not",
        f"{runs * ASLEEP_PER_LIVE:,} sleeping runs of {WAVES} waves, {CALLS} calls old, each with a session of its own",
        f"{scopes:,} scopes, active in each of the last {ACTIVE_HOURS} hours; a budget and a spend_anomaly on each",
    ]
    return part


def _restored(policy: str, runs: int, rounds: int) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows"
        in_fresh_process(write_rows, policy, runs, path)
        return [in_fresh_process(restored_run_bytes, policy, runs, path) for _ in range(rounds)]


def seen_id_bytes(runs: int) -> float:
    """What the memory of one counted event's id costs."""
    before = resident_bytes()
    ids = SeenIds()
    for message in _life_of_runs(0, runs):
        ids.add(message.tenant_id, message.event_id, START_MS)
    ids.take_new()
    return (resident_bytes() - before) / len(ids)


def live_run_bytes(policy: str, runs: int) -> float:
    """Bytes per live run, the ids of its events included."""
    engine = Engine(read_bench_policy(policy))
    _feed(engine, 0, runs // 10)  # what is there once: tenants, routes, scopes, the interpreter's own pools
    before = resident_bytes()
    _feed(engine, runs // 10, runs)
    return (resident_bytes() - before) / runs


def asleep_run_bytes(policy: str, runs: int) -> float:
    """Bytes per sleeping run, its session and its tree included where the policy watches those."""
    engine, wave = Engine(read_bench_policy(policy)), max(1, runs // WAVES)
    _live_and_sleep(engine, 0, wave)  # what is there once, and what a wave of live runs leaves behind
    before = resident_bytes()
    for number in range(1, WAVES + 1):
        _live_and_sleep(engine, number, wave)
    return (resident_bytes() - before) / (WAVES * wave)


def _live_and_sleep(engine: Engine, number: int, runs: int) -> None:
    """Let a wave of runs live, and wait until all of them sleep."""
    at_ms = START_MS + number * WAVE_MS
    _feed(engine, number * runs, (number + 1) * runs, at_ms)
    engine.handle(Ticked(at_ms + WAVE_MS - 1))
    _drain(engine, {})


def write_rows(policy: str, runs: int, path: Path) -> None:
    """Leave the rows of an engine with that many live runs in a file, the newest of each key."""
    engine = Engine(read_bench_policy(policy))
    rows = {key: value for key, value in _feed(engine, 0, runs).items() if value is not None}
    with path.open("wb") as file:
        for row in rows.items():
            pickle.dump(row, file)


def restored_run_bytes(policy: str, runs: int, path: Path) -> float:
    """Bytes per run of an engine that has just read its state back."""
    engine = Engine(read_bench_policy(policy))
    before = resident_bytes()
    engine.restore(dict(_read_rows(path)))
    return (resident_bytes() - before) / runs


def scope_memory(cuts: int) -> float:
    """Memory of an engine whose workflows spent in every hour of a week, under a policy with that many more cuts."""
    groups = [["tenant_id", "workflow"], *(["tenant_id", "workflow", name] for name in CUTS[:cuts])]
    budgets = [{"name": f"b{n}", "group_by": g, "period": "day", "limit_usd": 10**6} for n, g in enumerate(groups)]
    anomalies = [{"name": f"a{n}", "group_by": g} for n, g in enumerate(groups)]
    engine = Engine(read_policy({"budget": budgets, "spend_anomaly": anomalies}))
    before = resident_bytes()
    for hour in range(ACTIVE_HOURS + 1):
        for number in range(WORKFLOWS):
            ts_ms = START_MS + hour * HOUR_MS + number
            engine.handle(UsageSeen(_hourly_call(hour, number, ts_ms), ts_ms))
            if number % SCOPES_DRAIN_EVERY == 0:
                _drain(engine, {})
    return float(resident_bytes() - before)


def _hourly_call(hour: int, number: int, ts_ms: int) -> LlmCall:
    return LlmCall(
        event_id=f"{hour}-{number}", ts_ms=ts_ms, tenant_id="acme", run_id=f"run-{number}-{hour}",
        workflow=f"workflow-{number}", environment="prod", agent="agent", owner="team", project="project",
        model="gpt-4.1", input_tokens=900 + hour, output_tokens=100, cost_nanousd=10**6 + 1000 * hour + number,
    )  # fmt: skip


def _feed(engine: Engine, first: int, last: int, at_ms: int = START_MS) -> dict[bytes, bytes | None]:
    """Let the runs from `first` to before `last` live; returns the rows written."""
    rows: dict[bytes, bytes | None] = {}
    per_run = CALLS + 1
    for number, message in enumerate(_life_of_runs(first, last, at_ms)):
        engine.handle(UsageSeen(message, at_ms))
        if number % (DRAIN_EVERY * per_run) == 0:
            _drain(engine, rows)
    _drain(engine, rows)
    return rows


def _drain(engine: Engine, rows: dict[bytes, bytes | None]) -> None:
    rows.update(engine.drain_rows())
    engine.drain_effects()


def _life_of_runs(first: int, last: int, at_ms: int = START_MS) -> Iterator[UsageMessage]:
    for number in range(first, last):
        tenant, run, session = f"tenant-{number % TENANTS:05d}", f"run-{number:010d}", f"session-{number:08d}"
        yield RunStarted(
            event_id=f"{run}-0", ts_ms=at_ms, tenant_id=tenant, run_id=run, session_id=session,
            workflow=f"workflow-{number // TENANTS % 10}", environment="prod", agent="agent", owner="team",
        )  # fmt: skip
        for call in range(1, CALLS + 1, 2):
            yield LlmCall(
                event_id=f"{run}-{call}", ts_ms=at_ms, tenant_id=tenant, run_id=run, model="gpt-4.1",
                input_tokens=1000 + call, output_tokens=100, cost_nanousd=10**6, prompt_hash=f"{run}-{call}",
            )  # fmt: skip
            yield ToolCall(
                event_id=f"{run}-{call + 1}", ts_ms=at_ms, tenant_id=tenant, run_id=run, tool="bash",
                args_hash=f"{run}-{call}", result_hash=f"{run}-{call}",
            )  # fmt: skip


def _read_rows(path: Path) -> Iterator[tuple[bytes, bytes]]:
    with path.open("rb") as file:
        while True:
            try:
                yield pickle.load(file)
            except EOFError:
                return
