"""What real agent sessions have sent to their models, as usage messages; the files are described in their own README.

One session is one run, of a workflow named after its harness. Sessions follow each other as they began, a day apart, so
that whatever is usual is known from earlier ones. Without times, a second passes from one call to the next.
"""

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from schemas.usage import LlmCall, RunFinished, ToolCall, UsageMessage
from tests.support.messages import DAY_MS, MONDAY_MS, SECOND_MS
from tests.support.trajectories import FOLDER as DATA

FOLDER = DATA / "agent_sessions"


class SessionTokens(NamedTuple):
    """One session of an agent."""

    session_id: str
    source: str
    model: str
    label: str | None
    """What a person made of it: stuck, waiting, working, unsure; None where nobody looked."""
    messages: tuple[UsageMessage, ...]
    """As if it had begun at the millisecond 0 of `MONDAY_MS`."""

    def is_for_choosing(self) -> bool:
        """Whether thresholds may be chosen on it: half of them, by a hash of the id. The others give the figures."""
        return hashlib.sha256(self.session_id.encode()).digest()[0] % 2 == 0

    def moved(self, by_ms: int) -> Iterator[UsageMessage]:
        """Its messages, so much later."""
        for message in self.messages:
            yield message_at(message, message.ts_ms + by_ms)


def message_at(message: UsageMessage, ts_ms: int) -> UsageMessage:
    """The same at another time."""
    kept = {name: getattr(message, name) for name in message.__struct_fields__}
    return type(message)(**{**kept, "ts_ms": ts_ms})


def sessions(source: str, *, agents_known: bool = True) -> list[SessionTokens]:
    """The sessions of one file that have token counts, in the order in which they began.

    Without `agents_known` nobody says which agent of a run makes a call.
    """
    labels = {one["session_id"]: one["label"] for one in _lines(FOLDER / "labels.jsonl")}
    found = []
    for row in _lines(FOLDER / f"{source}.sessions.jsonl.gz"):
        if any(event["k"] == "llm" and event.get("in") for event in row["events"]):
            messages = tuple(_messages(row, source, agents_known=agents_known))
            label = labels.get(row["session_id"])
            found.append((_began(row), SessionTokens(row["session_id"], source, row["model"], label, messages)))
    return [session for _, session in sorted(found, key=lambda one: (one[0], one[1].session_id))]


def in_a_row(chosen: list[SessionTokens]) -> Iterator[UsageMessage]:
    """Their messages one session after the other, each on a day of its own."""
    for day, session in enumerate(chosen):
        yield from session.moved(day * DAY_MS)


def _began(row: dict[str, Any]) -> int:
    return next((event["ts"] for event in row["events"] if event.get("ts")), 0)


def _messages(row: dict[str, Any], source: str, *, agents_known: bool) -> Iterator[UsageMessage]:
    at_ms, began_ms = MONDAY_MS, _began(row)
    for number, event in enumerate(row["events"]):
        if event["k"] not in ("llm", "tool"):
            continue
        passed_ms = event["ts"] - began_ms if event.get("ts") else 0
        at_ms = max(at_ms + SECOND_MS, min(MONDAY_MS + passed_ms, MONDAY_MS + DAY_MS // 2))
        agent = event.get("agent") if agents_known else None
        envelope: dict[str, Any] = {
            "event_id": f"{row['session_id']}/{number}",
            "ts_ms": at_ms,
            "tenant_id": source,
            "run_id": row["session_id"],
            "workflow": row["harness"],
            "owner": "team",
            "agent": agent,
        }
        if event["k"] == "tool":
            yield ToolCall(**envelope, tool=event["tool"] or "tool")
            continue
        yield LlmCall(
            **envelope,
            model=event["model"] or row["model"],
            input_tokens=event.get("in") or 0,
            cache_read_tokens=event.get("cr") or 0,
            cache_write_tokens=event.get("cw") or 0,
            output_tokens=event.get("out") or 0,
        )
    yield RunFinished(
        event_id=f"{row['session_id']}/end", ts_ms=at_ms + SECOND_MS, tenant_id=source, run_id=row["session_id"],
        status="completed",
    )  # fmt: skip


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    written = path.read_bytes()
    text = (gzip.decompress(written) if path.suffix == ".gz" else written).decode()
    for line in text.splitlines():
        yield json.loads(line)
