"""Claude Code: its events `api_request`, `api_error` and `tool_result`, and the span `claude_code.llm_request`.

A request is told in a log record and, with beta traces on, in a span: both have its id, so that it counts once. The
same id stands in its session files (`python -m streams import`). Its cached tokens stand beside the input.

A tool's arguments and result are told to the hook alone, after the tool: its report has their hashes, and comes before
the log record of the same id, which has none.
"""

from typing import Annotated, Any, Final

import msgspec

from models.identity import derived_id
from schemas.usage import Id
from streams.fingerprints import args_hash, result_hashes
from streams.gateway.sources.coding_agents.call import about, count, says, text
from streams.gateway.sources.otlp.log import Log
from streams.gateway.sources.otlp.span import Span
from streams.gateway.sources.otlp.values import Attributes
from streams.gateway.sources.reported import nanousd_or_none

SCOPE: Final = "com.anthropic.claude_code.events"
PREFIX: Final = "claude_code."
WORKFLOW: Final = "claude-code"
WRITES: Final = frozenset({"Edit", "MultiEdit", "Write", "NotebookEdit"})
"""Tools that change something."""


class ToolUsed(msgspec.Struct, frozen=True):
    """What the hook is told after a tool."""

    session_id: Id
    hook_event_name: str
    tool_use_id: str | None = None
    tool_name: str = "unnamed"
    tool_input: Any = None
    tool_response: Any = None
    error: Any = None
    is_interrupt: bool = False
    duration_ms: Annotated[float, msgspec.Meta(ge=0, le=1e12)] = 0
    agent_id: str | None = None


def call_id(request_id: str) -> str:
    """The event id of a model call, wherever it is told."""
    return derived_id("claude-code", request_id)


def tool_id(tool_use_id: str) -> str:
    """The event id of a tool call, wherever it is told."""
    return derived_id("claude-code", "tool", tool_use_id)


def of_log(log: Log) -> dict[str, Any] | None:
    """The call that a log record tells of; None if it is none of these."""
    name = str(log.attributes.get("event.name", ""))
    if log.scope != SCOPE and not name.startswith(PREFIX):
        return None
    attributes = log.resource | log.attributes
    match name.removeprefix(PREFIX):
        case "api_request":
            return _about(log, attributes) | _request(attributes)
        case "api_error":
            return _about(log, attributes) | _error(attributes)
        case "tool_result":
            return _about(log, attributes) | _tool_result(attributes)
        case _:
            return None


def of_span(span: Span) -> dict[str, Any] | None:
    """The call that a span tells of; None if it is none of a request that was answered."""
    attributes = span.resource | span.attributes
    if attributes.get("span.type") != "llm_request" or "request_id" not in attributes or span.failed:
        return None
    log = Log(SCOPE, span.ended_ns, span.attributes, span.resource)
    return _about(log, attributes) | _request(attributes)


def of_hook(body: bytes, now_ms: int) -> dict[str, Any] | None:
    """The tool call that a hook reports; None for a hook before or beside a tool. Raises `msgspec.DecodeError`."""
    used = msgspec.json.decode(body, type=ToolUsed)
    if used.hook_event_name not in ("PostToolUse", "PostToolUseFailure") or not used.tool_use_id:
        return None
    latency_ms = round(used.duration_ms)
    call: dict[str, Any] = {
        "type": "tool_call",
        "event_id": tool_id(used.tool_use_id),
        "ts_ms": now_ms,
        "started_ms": now_ms - latency_ms,
        "latency_ms": latency_ms,
        "run_id": used.session_id,
        "session_id": used.session_id,
        "workflow": WORKFLOW,
        "agent": used.agent_id,
        "tool": used.tool_name,
        "writes": used.tool_name in WRITES,
        "args_hash": args_hash(used.tool_input),
        **result_hashes(used.tool_response if used.error is None else used.error),
    }
    if used.hook_event_name == "PostToolUseFailure":
        call |= {"status": "cancelled"} if used.is_interrupt else {"status": "error", "error_type": "tool_error"}
    return {name: value for name, value in call.items() if value is not None}


def _about(log: Log, attributes: Attributes) -> dict[str, Any]:
    told = about(log, attributes, attributes.get("session.id"), WORKFLOW)
    place = str(attributes.get("event.sequence", ""))
    told["event_id"] = derived_id(WORKFLOW, told.get("session_id", ""), place, log.time_ns)
    if "feature" not in told and (source := text(attributes, "query_source")):
        told["feature"] = source
    return told


def _request(attributes: Attributes) -> dict[str, Any]:
    read, written = count(attributes, "cache_read_tokens"), count(attributes, "cache_creation_tokens")
    call = {
        "event_id": call_id(str(attributes["request_id"])) if attributes.get("request_id") else None,
        "type": "llm_call",
        "model": text(attributes, "model") or "unknown",
        "provider": "anthropic",
        "input_tokens": count(attributes, "input_tokens") + read + written,
        "cache_read_tokens": read,
        "cache_write_tokens": written,
        "output_tokens": count(attributes, "output_tokens"),
        "attempt": max(1, count(attributes, "attempt")),
        "cost_nanousd": nanousd_or_none(attributes.get("cost_usd")),
    }
    if call["cost_nanousd"] is not None:
        call["price_source"] = "reported:claude-code"
    return {name: value for name, value in call.items() if value is not None}


def _error(attributes: Attributes) -> dict[str, Any]:
    """A request that came to nothing. Its error text may hold somebody's words: the status is enough."""
    return {
        "type": "llm_call",
        "model": text(attributes, "model") or "unknown",
        "provider": "anthropic",
        "status": "error",
        "error_type": text(attributes, "status_code") or "no_answer",
        "attempt": max(1, count(attributes, "attempt")),
        "cost_nanousd": 0,
    }


def _tool_result(attributes: Attributes) -> dict[str, Any]:
    """Without hashes: arguments and results are told to the hook alone, whose report of the same call counts."""
    name, tool_use_id = text(attributes, "tool_name") or "unnamed", text(attributes, "tool_use_id")
    call: dict[str, Any] = {"type": "tool_call", "tool": name, "writes": name in WRITES}
    if tool_use_id:
        call["event_id"] = tool_id(tool_use_id)
    if says(attributes, "success", "false"):
        call |= {"status": "error", "error_type": text(attributes, "error_type") or "tool_error"}
    return call
