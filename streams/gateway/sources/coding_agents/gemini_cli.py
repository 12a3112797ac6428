"""Gemini CLI: its events `gemini_cli.api_response` and `gemini_cli.api_error`, and its hook after a tool.

Thoughts stand beside the output, and what a tool brought into the prompt beside the input. Its log records and spans
of OpenTelemetry's conventions tell the same calls once more, and are passed over. So is `gemini_cli.tool_call`: it has
neither the result nor an id by which it and the hook would be one.
"""

import json
import re
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from models.identity import derived_id
from schemas.policy import epoch_ms
from schemas.usage import Id
from streams.fingerprints import args_hash, result_hashes
from streams.gateway.sources.coding_agents.call import about, count, text
from streams.gateway.sources.otlp.log import Log
from streams.gateway.sources.otlp.values import Attributes

WORKFLOW: Final = "gemini-cli"
WRITES: Final = frozenset({"replace", "write_file"})
"""Tools that change something."""
CHANGING: Final = re.compile(r"(?:Process Group PGID|Background PIDs): [\d, ]+")
"""What differs in every output of a command."""


class _Response(msgspec.Struct, frozen=True):
    llmContent: Any = None  # noqa: N815 - as it is named there
    error: Any = None


class ToolUsed(msgspec.Struct, frozen=True):
    """What the hook is told after a tool."""

    session_id: Id
    hook_event_name: str
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    tool_name: str = "unnamed"
    tool_input: Any = None
    tool_response: _Response = _Response()


def of_log(log: Log) -> dict[str, Any] | None:
    """The call that a log record tells of; None if it is none of these."""
    attributes = log.resource | log.attributes
    match attributes.get("event.name"):
        case "gemini_cli.api_response":
            return _about(log, attributes, "response", _input(attributes), _output(attributes)) | _response(attributes)
        case "gemini_cli.api_error":
            return _about(log, attributes, "error") | _error(attributes)
        case _:
            return None


def _about(log: Log, attributes: Attributes, *what: str | int) -> dict[str, Any]:
    """Gemini CLI has no id of a call: session, prompt, time and what it says stand for one."""
    told = about(log, attributes, attributes.get("session.id"), WORKFLOW)
    place = str(attributes.get("event.timestamp") or log.time_ns)
    prompt = str(attributes.get("prompt_id", ""))
    told["event_id"] = derived_id(WORKFLOW, told.get("session_id", ""), prompt, place, *what)
    if "feature" not in told and (role := text(attributes, "role")):
        told["feature"] = role
    return told


def _input(attributes: Attributes) -> int:
    return count(attributes, "input_token_count") + count(attributes, "tool_token_count")


def _output(attributes: Attributes) -> int:
    return count(attributes, "output_token_count") + count(attributes, "thoughts_token_count")


def _model(attributes: Attributes) -> dict[str, Any]:
    model = text(attributes, "model", "model_name") or "unknown"
    return {"type": "llm_call", "model": model, "provider": "gcp.gemini"}


def _response(attributes: Attributes) -> dict[str, Any]:
    return _model(attributes) | {
        "input_tokens": _input(attributes),
        "cache_read_tokens": count(attributes, "cached_content_token_count"),
        "output_tokens": _output(attributes),
        "reasoning_tokens": count(attributes, "thoughts_token_count"),
    }


def _error(attributes: Attributes) -> dict[str, Any]:
    """A request that came to nothing. Its error text may hold somebody's words: the status is enough."""
    status = text(attributes, "status_code", "http.status_code", "error.type") or "no_answer"
    return _model(attributes) | {"status": "error", "error_type": status, "cost_nanousd": 0}


def of_hook(body: bytes, now_ms: int) -> dict[str, Any] | None:
    """The tool call that a hook reports; None for a hook that is none after a tool. Raises `msgspec.DecodeError`."""
    used = msgspec.json.decode(body, type=ToolUsed)
    if used.hook_event_name != "AfterTool":
        return None
    response = used.tool_response
    ts_ms = now_ms if used.timestamp is None else epoch_ms(used.timestamp)
    call: dict[str, Any] = {
        "type": "tool_call",
        "event_id": derived_id(WORKFLOW, "tool", used.session_id, ts_ms, used.tool_name),
        "ts_ms": ts_ms,
        "run_id": used.session_id,
        "session_id": used.session_id,
        "workflow": WORKFLOW,
        "tool": used.tool_name,
        "writes": used.tool_name in WRITES,
        "args_hash": args_hash(used.tool_input),
        **result_hashes(CHANGING.sub("", json.dumps(response.llmContent))),
    }
    return call if response.error is None else call | {"status": "error", "error_type": "tool_error"}
