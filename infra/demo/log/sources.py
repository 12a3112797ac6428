"""Readers of the real runs: one source's rows become trajectories without text. SOURCES.md says what is real."""

import csv
import gzip
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from infra.demo.log.trajectories import OutcomeWord, RunEnd, Step, ToolUse, Trajectory, with_resent_context_cached
from schemas.usage import CallStatus

CHARACTERS_PER_TOKEN = 4
CONTEXT_WINDOW = 195_000
SUPPORT_PROMPT_TOKENS = 2_400
"""Policy and tool descriptions that tau-bench sends with every call; its logs do not count them."""
CODING_PROMPT_TOKENS = 3_000
MESSAGE_TOKENS = 60
"""An agent's plain message or reasoning around a tool call, where the source keeps no length."""
STEP_LIMIT = 30
"""Where the harnesses of mini-swe-agent and tau-bench cut a run off."""

Row = dict[str, Any]


def rows(path: Path) -> Iterator[Row]:
    """The rows of a gzip'd JSON-lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def tokens(characters: int) -> int:
    """The usual estimate, for sources that count characters only."""
    return -(-characters // CHARACTERS_PER_TOKEN)


def labelled(data: Path, agent: str, model: str, pace_ms: tuple[int, int], rng: Random) -> list[Trajectory]:
    """OpenHands, RepairAgent or AutoCodeRover runs; a run's token totals are real, their spread over steps is not.

    The source has no times: steps follow each other within `pace_ms`, from and to.
    """
    runs = (row for row in rows(data / "agent_trajectories_labelled.jsonl.gz") if row["agent"] == agent)
    return [run for row in runs if (run := _labelled_run(row, model, pace_ms, rng)) is not None]


def _labelled_run(row: Row, model: str, pace_ms: tuple[int, int], rng: Random) -> Trajectory | None:
    totals = row["totals"] or {}
    sizes = _context_curve(row["steps"], totals.get("in"))
    if max(sizes) > CONTEXT_WINDOW:
        return None
    written = totals.get("out")
    steps = []
    for step, size in zip(row["steps"], sizes, strict=True):
        output = written // len(sizes) if written else tokens(_args_length(step)) + MESSAGE_TOKENS
        steps.append(Step(rng.randint(*pace_ms), size, max(output, 1), tools=_tools(step)))
    solved = row["label"]["resolved"]
    outcome: OutcomeWord | None = None if solved is None else "accepted" if solved else "rejected"
    return Trajectory(row["agent"], model, with_resent_context_cached(model, steps), outcome=outcome)


def _context_curve(steps: list[Row], total: int | None) -> list[int]:
    """Input tokens of each call: a straight line with the real sum, else what the steps themselves added up to."""
    count = len(steps)
    if not total:
        sizes, size = [], CODING_PROMPT_TOKENS
        for step in steps:
            sizes.append(size)
            size += tokens(_args_length(step) + step.get("obs_len", 0)) + MESSAGE_TOKENS
        return sizes
    mean = total / count
    last = min(1.6 * mean, CONTEXT_WINDOW)
    first = 2 * mean - last
    return [round(first + (last - first) * k / max(count - 1, 1)) for k in range(count)]


def _args_length(step: Row) -> int:
    return int(step.get("args_len") or len(step.get("args") or ""))


def _tools(step: Row) -> tuple[ToolUse, ...]:
    if step.get("tool") is None:
        return ()
    name = re.sub(r"\W+", "_", step["tool"])
    status: CallStatus = "error" if step.get("err") else "ok"
    return (ToolUse(name, step.get("args_sha"), step.get("obs_sha"), status),)


def tau_bench(data: Path, rng: Random) -> list[Trajectory]:
    """Customer-support runs of gpt-4o; sizes are characters / 4, times are not in the source."""
    return [_tau_run(row, rng) for row in rows(data / "taubench_gpt4o_airline.jsonl.gz")]


def _tau_run(row: Row, rng: Random) -> Trajectory:
    steps = []
    size = SUPPORT_PROMPT_TOKENS
    for step in row["steps"]:
        output = tokens(_args_length(step)) if step["tool"] else MESSAGE_TOKENS
        steps.append(Step(rng.randint(5_000, 25_000), size, max(output, 1), tools=_tools(step)))
        size += output + tokens(step["obs_len"])
    handed_over = any(step["tool"] == "transfer_to_human_agents" for step in row["steps"])
    outcome: OutcomeWord = "accepted" if row["label"]["reward"] == 1.0 else "escalated" if handed_over else "rejected"
    cached = with_resent_context_cached(row["model"], steps)
    end: RunEnd = "failed" if len(steps) >= STEP_LIMIT else "completed"
    return Trajectory("tau-bench", row["model"], cached, end, outcome)


def lmcache(data: Path, agent: str, model: str) -> list[Trajectory]:
    """Agent sessions with real times (to the microsecond) and sizes in characters; no tool results."""
    runs = []
    for row in rows(data / "lmcache_agent_traces.jsonl.gz"):
        if row["agent"] != agent:
            continue
        gaps = [0] + [(b["ts_us"] - a["ts_us"]) // 1_000 for a, b in pairwise(row["steps"])]
        steps = [
            Step(gap, max(tokens(step["in_chars"]), 1), max(tokens(step["out_chars"]), 1), tools=_tools(step))
            for gap, step in zip(gaps, row["steps"], strict=True)
        ]
        end: RunEnd = "failed" if agent == "miniswe" and len(steps) >= STEP_LIMIT else "completed"
        cached = with_resent_context_cached(model, steps) if agent == "miniswe" else tuple(steps)
        runs.append(Trajectory(f"lmcache-{agent}", model, cached, end))
    return runs


def mooncake(data: Path, model: str) -> list[Trajectory]:
    """Conversations of the hour-long trace, found by their shared prefix blocks; times, sizes and reuse are real."""
    owner: dict[int, int] = {}
    turns: dict[int, list[tuple[int, Step]]] = defaultdict(list)
    for index, row in enumerate(rows(data / "mooncake_conversation_trace.jsonl.gz")):
        blocks = row["hash_ids"]
        known = [k for k, block in enumerate(blocks) if k > 0 and block in owner]  # block 0 begins every request
        conversation = owner[blocks[known[-1]]] if known else index
        for block in blocks[1:]:
            owner.setdefault(block, conversation)
        cached = min(512 * (known[-1] + 1), row["input_length"]) if known else 0
        earlier = turns[conversation]
        gap = max(row["timestamp"] - earlier[-1][0], 1_000) if earlier else 0
        step = Step(gap, row["input_length"], max(row["output_length"], 1), cached)
        earlier.append((row["timestamp"], step))
    return [Trajectory("mooncake", model, tuple(step for _, step in steps)) for steps in turns.values()]


def azure(data: Path, kind: str, model: str, calls_per_run: int) -> list[Trajectory]:
    """Consecutive calls of a production service, cut into runs; gaps are the real ones stretched sixtyfold."""
    with gzip.open(data / f"azure_llm_2023_{kind}.csv.gz", "rt", encoding="utf-8") as lines:
        calls = [
            (datetime.fromisoformat(row["TIMESTAMP"][:26]), int(row["ContextTokens"]), int(row["GeneratedTokens"]))
            for row in csv.DictReader(lines)
        ]
    steps = [Step(1_000, calls[0][1], max(calls[0][2], 1))]
    for before, call in pairwise(calls):
        stretched = round((call[0] - before[0]).total_seconds() * 60_000)
        steps.append(Step(min(max(stretched, 1_000), 120_000), max(call[1], 1), max(call[2], 1)))
    starts = range(0, len(steps) - calls_per_run + 1, calls_per_run)
    return [Trajectory(f"azure-{kind}", model, tuple(steps[k : k + calls_per_run])) for k in starts]


def tracelab(data: Path) -> list[Trajectory]:
    """The two example sessions: real models, tokens, cache counts and times."""
    sessions: dict[str, list[Row]] = defaultdict(list)
    for row in rows(data / "tracelab_example_rounds.jsonl.gz"):
        sessions[row["session_id"]].append(row)
    return [_tracelab_run(session) for session in sessions.values()]


def _tracelab_run(rounds: list[Row]) -> Trajectory:
    starts = [datetime.fromisoformat(row["timing_events"][0]["timestamp"]) for row in rounds]
    gaps = [0] + [round((b - a).total_seconds() * 1_000) for a, b in pairwise(starts)]
    steps = tuple(
        Step(
            gap_ms=max(gap, 0),
            input_tokens=row["input_tokens_total"],
            output_tokens=row["output_tokens"],
            cache_read_tokens=row["prefix_tokens"],
            cache_write_tokens=row["claude_cache_creation_input_tokens"] or 0,
            tools=tuple(_tracelab_tool(tool) for tool in row["tools"]),
        )
        for gap, row in zip(gaps, rounds, strict=True)
    )
    return Trajectory("tracelab", rounds[0]["model"], steps)


def _tracelab_tool(tool: Row) -> ToolUse:
    canonical = json.dumps(tool["input"], sort_keys=True, ensure_ascii=False)
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:12]
    latency = tool["tool_wall_latency_ms"] or 0
    return ToolUse(tool["tool_name"], digest, None, "error" if tool["is_error"] else "ok", latency)
