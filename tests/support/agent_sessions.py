"""Real sessions of agents as the usage messages they would have sent, and what people said of some after reading them.

The files are described in their own README. Nothing is made up beyond identity and time: a file that has no times gets
one second per event, and what a file does not have stays unset.
"""

import gzip
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from schemas.usage import LlmCall, ToolCall

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "agent_sessions"
WHY_SKIPPED = "needs the real sessions in ../shared/data/agent_sessions, which are not here"

Judgement = Literal["stuck", "waiting", "working", "unsure"]
START_MS = 1_750_000_000_000
"""Of sessions without times."""
REFUSED = "refuses task_done"
"""What the reason of a label says of a session whose finishing tool was refused."""


@dataclass(frozen=True)
class Label:
    """A person's judgement of a stretch of a session's tool calls."""

    judgement: Judgement
    reason: str

    @property
    def is_refused_finish(self) -> bool:
        """Whether the harness refused the finishing tool again and again."""
        return self.judgement == "stuck" and REFUSED in self.reason

    @property
    def is_call_loop(self) -> bool:
        """Whether the same calls were repeated for nothing."""
        return self.judgement == "stuck" and not self.is_refused_finish


@dataclass(frozen=True)
class Session:
    """One session: its calls in order, and its label if somebody has read it."""

    session_id: str
    source: str
    calls: tuple[LlmCall | ToolCall, ...]
    label: Label | None

    @property
    def is_healthy(self) -> bool:
        """Whether nobody found it stuck, or unsure whether it is."""
        return self.label is None or self.label.judgement in ("working", "waiting")


def in_choosing_half(name: str) -> bool:
    """Whether a run or session is one of those that thresholds were chosen on; the others are for the final figure."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 2 == 0


def agent_sessions() -> list[Session]:
    """All sessions, by file."""
    labels = _labels()
    sessions = []
    for path in sorted(FOLDER.glob("*.sessions.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                session_id = row["session_id"]
                sessions.append(Session(session_id, row["source"], _calls(row), labels.get(session_id)))
    return sessions


def _labels() -> dict[str, Label]:
    with (FOLDER / "labels.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return {row["session_id"]: Label(row["label"], row["reason"]) for row in rows}


def _calls(row: dict[str, Any]) -> tuple[LlmCall | ToolCall, ...]:
    calls: list[LlmCall | ToolCall] = []
    for at, event in enumerate(row["events"]):
        if event["k"] == "llm":
            calls.append(_model_call(row, at, event))
        elif event["k"] == "tool":
            calls.append(_tool_call(row, at, event))
    return tuple(calls)


def _model_call(row: dict[str, Any], at: int, event: dict[str, Any]) -> LlmCall:
    return LlmCall(
        **_identity(row, at, event.get("ts"), event.get("agent")),
        model=event["model"] or "unknown",
        input_tokens=event.get("in") or 0,
        cache_read_tokens=event.get("cr") or 0,
        cache_write_tokens=event.get("cw") or 0,
        cache_write_1h_tokens=event.get("cw1h") or 0,
        output_tokens=event.get("out") or 0,
        attempt=event.get("retry") or 1,
        status="error" if event.get("err") else "ok",
        error_type=event.get("err"),
    )


def _tool_call(row: dict[str, Any], at: int, event: dict[str, Any]) -> ToolCall:
    started_ms, ended_ms = event.get("ts"), event.get("end")
    return ToolCall(
        **_identity(row, at, ended_ms or started_ms, event.get("agent")),
        tool=event["tool"],
        args_hash=event["args"],
        result_hash=event["res"],
        result_shape_hash=event["shape"],
        status="error" if event["err"] else "ok",
        writes=event["w"],
        started_ms=started_ms,
        latency_ms=None if started_ms is None or ended_ms is None else ended_ms - started_ms,
    )


def _identity(row: dict[str, Any], at: int, ts_ms: int | None, agent: str | None) -> dict[str, Any]:
    return {
        "event_id": f"{row['session_id']}/{at}"[-128:],
        "ts_ms": START_MS + 1000 * at if ts_ms is None else ts_ms,
        "tenant_id": row["source"],
        "run_id": row["session_id"],
        "agent": agent,
    }
