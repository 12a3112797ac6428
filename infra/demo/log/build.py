"""Builds the demo's usage log from real runs: `python -m infra.demo.log.build --data ../shared/data`.

The same input gives the same bytes. What is real in the result and what is not stands in SOURCES.md.
"""

import argparse
import gzip
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from infra.demo.log import calendar, cast
from infra.demo.log.loop import LOOP_STEPS, SAME_CALL, looping_docs_agent
from infra.demo.log.prices import UNIT_PRICES
from infra.demo.log.schedule import Placed
from infra.demo.log.trajectories import OutcomeWord, Step, Trajectory, step_cost_nanousd
from models.rules.policy import read_policy_toml
from models.stimuli import UsageSeen
from schemas.control import Command
from schemas.duration import HOUR_MS
from schemas.usage import LlmCall, Outcome, RunFinished, RunStarted, ToolCall, UsageMessage
from streams.process.ending import run_to_end
from streams.tools.replay.replay import Replay
from streams.tools.scorecard import Scorecard

SEED = 20261118
FOLDER = Path(__file__).parents[1]
LOG = FOLDER / "usage.jsonl.gz"
INCIDENTS = FOLDER / "incidents.json"
POLICY = FOLDER / "policy.toml"
DRAWN_OUTCOMES: tuple[OutcomeWord, ...] = ("accepted", "edited", "rejected")
DRAWN_WEIGHTS = (8, 1, 1)
OUTCOME_SHARE = 0.25
"""Of the runs whose source knows no result, how many get one drawn."""


class Narrator:
    """Tells one run as messages: ids and `seq` in order, times rising."""

    def __init__(self, run_id: str, placed: Placed, rng: Random) -> None:
        self._run_id = run_id
        self._placed = placed
        self._rng = rng
        self._seq = 0
        self._now_ms = placed.start_ms

    def messages(self) -> Iterator[UsageMessage]:
        """run_started, the calls, run_finished, and an outcome where there is one."""
        run, kind = self._placed.run, self._placed.kind
        yield RunStarted(
            **self._head(),
            workflow=kind.workflow,
            owner=kind.owner,
            project=kind.project,
            environment=kind.environment,
            agent=kind.agent,
            prompt_version=kind.prompt_version,
            tags={"source": run.source},
        )
        step_at_ms = self._placed.start_ms
        for index, step in enumerate(run.steps):
            step_at_ms += step.gap_ms if index else 500
            self._now_ms = max(self._now_ms, step_at_ms)
            yield self._llm_call(index, step)
            yield from self._tool_calls(step)
        self._now_ms += 1_000
        yield RunFinished(**self._head(), status=run.end)
        outcome = run.outcome or self._drawn_outcome(run)
        if outcome is not None:
            self._now_ms += 30_000
            yield Outcome(**self._head(), outcome=outcome)

    def _llm_call(self, index: int, step: Step) -> LlmCall:
        run, kind = self._placed.run, self._placed.kind
        return LlmCall(
            **self._head(),
            model=run.model,
            provider=UNIT_PRICES[run.model].provider,
            input_tokens=step.input_tokens,
            cache_read_tokens=step.cache_read_tokens,
            cache_write_tokens=step.cache_write_tokens,
            output_tokens=step.output_tokens,
            cost_nanousd=step_cost_nanousd(run.model, step) if kind.priced else None,
            latency_ms=step.latency_ms,
            prompt_hash=hashlib.sha256(f"{self._run_id}/{index}".encode()).hexdigest()[:12],
        )

    def _tool_calls(self, step: Step) -> Iterator[ToolCall]:
        for use in step.tools:
            self._now_ms += min(use.latency_ms, max(step.gap_ms // 2, 1))
            yield ToolCall(
                **self._head(),
                tool=use.tool,
                args_hash=use.args_hash,
                result_hash=use.result_hash,
                status=use.status,
                latency_ms=use.latency_ms,
            )

    def _drawn_outcome(self, run: Trajectory) -> OutcomeWord | None:
        if run.source == "planted" or self._rng.random() >= OUTCOME_SHARE:
            return None
        return self._rng.choices(DRAWN_OUTCOMES, DRAWN_WEIGHTS)[0]

    def _head(self) -> dict[str, Any]:
        self._seq += 1
        return {
            "event_id": f"{self._run_id}:{self._seq}",
            "ts_ms": self._now_ms,
            "tenant_id": self._placed.kind.tenant_id,
            "run_id": self._run_id,
            "seq": self._seq,
        }


def named(placed: Iterable[Placed]) -> list[tuple[str, Placed]]:
    """Runs in the order they start, each with an id a person can read: tenant, workflow, running number."""
    counts: Counter[str] = Counter()
    result = []
    for one in sorted(placed, key=lambda one: one.start_ms):
        stem = f"{one.kind.tenant_id}-{one.kind.workflow}"
        counts[stem] += 1
        result.append((f"{stem}-{counts[stem]:04d}", one))
    return result


def build(data: Path) -> tuple[list[UsageMessage], dict[str, Any]]:
    """All messages in order of time, and what must be seen in them."""
    rng = Random(SEED)  # noqa: S311 - repeatable, not secret
    loop = looping_docs_agent(data, rng)
    runs = named([*cast.everyone(data, rng), loop])
    messages = [message for run_id, placed in runs for message in Narrator(run_id, placed, rng).messages()]
    messages.sort(key=lambda message: (message.ts_ms, message.run_id, message.seq))
    facts = incidents(runs, loop) | {"stops": stops(messages)}
    return messages, facts | {"messages": len(messages), "end_ms": messages[-1].ts_ms}


def stops(messages: Iterable[UsageMessage]) -> dict[str, str]:
    """Each run that the demo's policy kills, with the call after which it does: there the replay waits for it."""
    policy = read_policy_toml(POLICY.read_text(encoding="utf-8"))
    seen = (UsageSeen(message, message.ts_ms) for message in messages)
    commands = [effect.value for effect in Replay(policy, Scorecard()).effects(seen)]
    return {
        one.target.id: one.cause_event_id
        for one in commands
        if isinstance(one, Command) and one.action == "kill" and one.cause_event_id is not None
    }


def incidents(runs: list[tuple[str, Placed]], loop: Placed) -> dict[str, Any]:
    """The sidecar: where the planted incidents are, in the log's own time."""
    ids = {id(one): run_id for run_id, one in runs}
    circling = next(one for _, one in runs if one.start_ms == cast.CIRCLING_START_MS)
    runaway = max((one for _, one in runs), key=lambda one: one.run.cost_nanousd)
    return {
        "history_start_ms": calendar.HISTORY_START_MS,
        "today_start_ms": calendar.TODAY_MS,
        "planted": {
            "loop": {
                "tenant_id": loop.kind.tenant_id,
                "run_id": ids[id(loop)],
                "tool": SAME_CALL.tool,
                "identical_calls": LOOP_STEPS,
                "cost_nanousd_if_nobody_stops_it": loop.run.cost_nanousd,
                "rule": "same-call-again",
                "expect": "alert at the 3rd and page at the 5th identical call and result; the run is killed",
            },
            "budget": {
                "tenant_id": "acme",
                "window_start_ms": cast.BUDGET_HOUR_MS,
                "window_end_ms": cast.BUDGET_HOUR_MS + HOUR_MS,
                "rule": "tenant-hourly",
                "expect": "0.5, 0.8 and 1.0 of the hourly budget, each told once",
            },
            "spike": {
                "tenant_id": "globex",
                "window_start_ms": cast.SPIKE_HOUR_MS,
                "window_end_ms": cast.SPIKE_HOUR_MS + HOUR_MS,
                "prompt_version": cast.GLOBEX_CHAT_NEW.prompt_version,
                "rule": "hourly-5x",
                "expect": "one page once the hour costs more than 5 x the median; the budget stays under 0.5",
            },
        },
        "natural": {
            "runaway": {
                "tenant_id": runaway.kind.tenant_id,
                "run_id": ids[id(runaway)],
                "cost_nanousd": runaway.run.cost_nanousd,
                "rule": "run-cost",
                "expect": "0.5, 0.8 and 1.0 of the cap of a run; the run is killed; part of the budget hour's spend",
            },
            "circling": {
                "tenant_id": circling.kind.tenant_id,
                "run_id": ids[id(circling)],
                "cost_nanousd": circling.run.cost_nanousd,
                "rule": "going-in-circles",
                "expect": "five calls with the same results over and over near the run's end; the run is killed",
            },
        },
    }


def write_log(messages: Iterable[UsageMessage], path: Path) -> None:
    """One message a line; no file name and no time in the gzip header, so that the bytes depend on the content only."""
    lines = msgspec.json.Encoder().encode_lines(list(messages))
    path.write_bytes(gzip.compress(lines, compresslevel=9, mtime=0))


def main() -> int:
    """Write the log and its sidecar beside this file; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the real runs")
    messages, facts = build(parser.parse_args().data)
    write_log(messages, LOG)
    INCIDENTS.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    print(f"{len(messages)} messages, {LOG.stat().st_size} bytes: {LOG}")
    return 0


if __name__ == "__main__":
    sys.exit(run_to_end(main))
