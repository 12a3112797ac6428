"""Real agent runs as the usage messages their agents would have sent. The files are described in their own README.

Nothing is made up beyond identity and time: a file that has no times gets one second per step, and a field that a file
does not have stays unset.
"""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from schemas.usage import LlmCall, ToolCall

FOLDER = Path(__file__).parents[3] / "shared" / "data"

Results = Literal["exact", "digits_masked", "unknown"]
"""What the agent reports of a tool's result: the hash of all of it; the hash with digits masked, which leaves out the
countdowns and clocks that some agents add to every result (but also numbers that are news); or nothing."""

_RESULT_FIELD = {"exact": "obs_sha", "digits_masked": "obs_nsha", "unknown": ""}


@dataclass(frozen=True)
class Trajectory:
    """One run. `labels[k]` is a person's judgement of the way from step k to k + 1; None where nobody judged it."""

    run_id: str
    steps: tuple[tuple[int, LlmCall | ToolCall], ...]
    """Step number in the file, and the call."""
    labels: tuple[str, ...] | None = None
    texts: tuple[str, ...] = ()
    """What each step of the file did, for messages."""


def labelled_runs(results: Results) -> list[Trajectory]:
    """Coding agents (OpenHands, RepairAgent, AutoCodeRover), partly with a person's label for every step."""
    runs = []
    for row in _rows("agent_trajectories_labelled.jsonl.gz"):
        labels = row["label"].get("action_action")
        runs.append(_tool_run(row["traj_id"], row["steps"], results, tuple(labels) if labels else None))
    return runs


def tau_bench_runs(results: Results = "exact") -> list[Trajectory]:
    """Customer service by gpt-4o: healthy runs, if not always right ones."""
    return [_tool_run(row["traj_id"], row["steps"], results) for row in _rows("taubench_gpt4o_airline.jsonl.gz")]


def lmcache_runs() -> list[Trajectory]:
    """Three agents with real times. Sizes in characters stand for tokens; tool results are not in the file."""
    runs = []
    for row in _rows("lmcache_agent_traces.jsonl.gz"):
        run_id = row["session_id"]
        calls: list[tuple[int, LlmCall | ToolCall]] = []
        for index, step in enumerate(row["steps"]):
            ts_ms = step["ts_us"] // 1000
            model = LlmCall(
                **_identity(run_id, f"{index}m", ts_ms),
                model=row["agent"],
                input_tokens=step["in_chars"],
                output_tokens=step["out_chars"],
            )
            calls.append((index, model))
            if step.get("tool"):
                tool = ToolCall(**_identity(run_id, f"{index}t", ts_ms), tool=step["tool"], args_hash=step["args_sha"])
                calls.append((index, tool))
        runs.append(Trajectory(run_id, tuple(calls), texts=tuple(str(step.get("args", "")) for step in row["steps"])))
    return runs


TOOL_LIKE = ("computer_terminal", "computerterminal", "websurfer", "filesurfer")
"""Members of a team that answer an instruction with what a tool said."""


def who_and_when_runs() -> list[Trajectory]:
    """Teams of agents that failed. A tool-like member's answer is a tool call whose argument is the message before."""
    runs = []
    for row in _rows("who_and_when.jsonl.gz"):
        calls: list[tuple[int, LlmCall | ToolCall]] = []
        asked: str | None = None
        for index, step in enumerate(row["steps"]):
            who = step["agent"] if row["subset"] == "Algorithm-Generated" else step["role"]
            if str(who).lower() in TOOL_LIKE:
                call = ToolCall(
                    **_identity(row["traj_id"], str(index), index * 1000),
                    tool=who,
                    args_hash=asked,
                    result_hash=step["content_sha"],
                )
                calls.append((index, call))
            if "thought" not in str(who):
                asked = step["content_sha"]
        texts = tuple(f"{step['role']}: {step['content_head']}" for step in row["steps"])
        runs.append(Trajectory(row["traj_id"], tuple(calls), texts=texts))
    return runs


def _tool_run(
    run_id: str, steps: list[dict[str, Any]], results: Results, labels: tuple[str, ...] | None = None
) -> Trajectory:
    calls = tuple(
        (index, _tool_call(run_id, index, step, results)) for index, step in enumerate(steps) if step.get("tool")
    )
    return Trajectory(run_id, calls, labels, tuple(str(step.get("args", "")) for step in steps))


def _tool_call(run_id: str, index: int, step: dict[str, Any], results: Results) -> ToolCall:
    return ToolCall(
        **_identity(run_id, str(index), index * 1000),
        tool=step["tool"],
        args_hash=step["args_sha"],
        result_hash=step.get(_RESULT_FIELD[results]),
        status="error" if step.get("err") else "ok",
    )


def _identity(run_id: str, event: str, ts_ms: int) -> dict[str, Any]:
    return {"event_id": f"{run_id}/{event}"[-128:], "ts_ms": ts_ms, "tenant_id": "real-runs", "run_id": run_id[:128]}


def _rows(name: str) -> Iterator[dict[str, Any]]:
    with gzip.open(FOLDER / name, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
