"""Claude Code's own session files: `~/.claude/projects/**/*.jsonl`.

A session is a run. A message stands in several lines, one for each part of its content, all with the same usage: the
line that says most counts. A session that is resumed repeats lines of the one before, with their ids.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import PurePath, PureWindowsPath
from typing import Any, Final

import msgspec

from schemas.codec import UNREADABLE
from streams.fingerprints import args_hash, result_hashes
from streams.gateway.sources.coding_agents.claude_code import WORKFLOW, WRITES, call_id, tool_id
from streams.tools.imports.source import Event, Line, Source, Unread

SYNTHETIC: Final = "<synthetic>"
"""The model of what Claude Code itself puts in a model's place, such as an error."""
REFUSED: Final = "The user doesn't want to"
"""How the result of a tool begins that a person has refused."""


class _CacheWrites(msgspec.Struct):
    ephemeral_1h_input_tokens: int = 0


class _ServerTools(msgspec.Struct):
    web_search_requests: int = 0


class _Usage(msgspec.Struct):
    input_tokens: int = 0
    cache_creation_input_tokens: int | None = 0
    cache_read_input_tokens: int | None = 0
    output_tokens: int = 0
    cache_creation: _CacheWrites | None = None
    server_tool_use: _ServerTools | None = None
    service_tier: str | None = None
    speed: str | None = None


class _Part(msgspec.Struct):
    """Of a message's content: a tool's use, or its result; of anything else only the type is read."""

    type: str = ""
    id: str | None = None
    name: str | None = None
    input: Any = None
    tool_use_id: str | None = None
    content: Any = None
    is_error: bool | None = None


class _Message(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    usage: _Usage | None = None
    content: msgspec.Raw = msgspec.Raw(b"[]")

    def parts(self) -> list[_Part]:
        """The content, where it is a list of parts; a person's words are none."""
        return _parts(self.content) if bytes(self.content).startswith(b"[") else []


class _Entry(msgspec.Struct):
    type: str = ""
    sessionId: str | None = None  # noqa: N815 - as the file names it, here and below
    timestamp: str | None = None
    requestId: str | None = None  # noqa: N815
    agentId: str | None = None  # noqa: N815
    cwd: str | None = None
    costUSD: float | None = None  # noqa: N815 - of versions that still said it
    message: _Message | None = None


_entry: Final = msgspec.json.Decoder(_Entry).decode
_parts: Final = msgspec.json.Decoder(list[_Part]).decode


def read(lines: Iterable[Line]) -> Iterator[Event | Unread]:
    """Model calls and tool calls of one session file."""
    calls: dict[str, Event] = {}
    tools: dict[str, Event] = {}
    for line in lines:
        if not line.data.strip():
            continue
        try:
            entry = _entry(line.data)
            message = entry.message
            if message is None or entry.type not in ("assistant", "user"):
                continue
            parts = message.parts()
            if not parts and message.usage is None:
                continue
            about = _about(entry)
        except UNREADABLE:
            yield Unread(line.number, "it is no line of a session")
            continue
        except _Unplaced as error:
            yield Unread(line.number, str(error))
            continue
        if entry.type == "assistant" and (call := _model_call(entry, message, about)):
            before = calls.get(call["event_id"])
            if before is None or before["output_tokens"] <= call["output_tokens"]:
                calls[call["event_id"]] = call
        for part in parts:
            if part.type == "tool_use" and part.id and part.id not in tools:
                tools[part.id] = _tool_call(part, about)
            elif part.type == "tool_result" and part.tool_use_id in tools:
                yield _answered(tools.pop(part.tool_use_id), part, about["ts_ms"])
    yield from calls.values()
    for unanswered in tools.values():
        yield unanswered | {"status": "cancelled"}


class _Unplaced(Exception):
    """An entry that says neither when nor in which session it was."""


def _about(entry: _Entry) -> Event:
    """What every event of an entry says: when, and whose. Raises `_Unplaced`."""
    if not entry.sessionId or not entry.timestamp:
        raise _Unplaced("it has no session or no time")
    try:
        ts_ms = round(datetime.fromisoformat(entry.timestamp).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise _Unplaced("its time is none") from None
    about = {
        "ts_ms": ts_ms, "run_id": entry.sessionId, "session_id": entry.sessionId, "workflow": WORKFLOW,
        "project": _folder(entry.cwd), "agent": entry.agentId,
    }  # fmt: skip
    return {name: value for name, value in about.items() if value is not None}


def _folder(path: str | None) -> str | None:
    """The name of the folder worked in."""
    if not path:
        return None
    return (PureWindowsPath(path) if "\\" in path else PurePath(path)).name or None


def _model_call(entry: _Entry, message: _Message, about: Event) -> Event | None:
    usage = message.usage
    ours = entry.requestId or message.id
    if usage is None or ours is None or message.model in (None, SYNTHETIC):
        return None
    read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    call = about | {
        "type": "llm_call",
        "event_id": call_id(ours),
        "model": f"{message.model}-fast" if usage.speed == "fast" else message.model,
        "provider": "anthropic",
        "input_tokens": usage.input_tokens + read + written,
        "cache_read_tokens": read,
        "cache_write_tokens": written,
        "cache_write_1h_tokens": usage.cache_creation.ephemeral_1h_input_tokens if usage.cache_creation else 0,
        "output_tokens": usage.output_tokens,
        "web_searches": usage.server_tool_use.web_search_requests if usage.server_tool_use else 0,
    }
    if usage.service_tier in ("batch", "priority"):
        call["service_tier"] = usage.service_tier
    if entry.costUSD:
        call |= {"cost_nanousd": round(entry.costUSD * 10**9), "price_source": "reported:claude-code"}
    return call


def _tool_call(part: _Part, about: Event) -> Event:
    name = part.name or "unnamed"
    return about | {
        "type": "tool_call",
        "event_id": tool_id(str(part.id)),
        "tool": name,
        "args_hash": args_hash(part.input),
        "started_ms": about["ts_ms"],
        "writes": name in WRITES,
    }


def _answered(call: Event, part: _Part, ts_ms: int) -> Event:
    answered = call | {"ts_ms": ts_ms, "latency_ms": max(0, ts_ms - call["started_ms"]), **result_hashes(part.content)}
    if part.is_error:
        answered["status"] = "error"
        if str(part.content).startswith(REFUSED):
            answered["error_type"] = "user_rejected"
    return answered


CLAUDE_CODE: Final = Source("**/*.jsonl", read)
