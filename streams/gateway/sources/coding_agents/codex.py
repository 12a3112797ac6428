"""Codex: its events `codex.sse_event`, `codex.api_request` and `codex.tool_result`.

A response is completed in two events of the same kind, of which one has its tokens; cached ones are part of the input.
The price is not told. A tool's arguments and output are: they are hashed, and gone.
"""

import re
from typing import Any, Final

from models.identity import derived_id
from streams.fingerprints import args_hash, result_hashes
from streams.gateway.sources.coding_agents.call import about, count, says, text
from streams.gateway.sources.otlp.log import Log
from streams.gateway.sources.otlp.values import Attributes

WORKFLOW: Final = "codex"
WRITES: Final = frozenset({"apply_patch"})
"""Tools that change something."""
MAIN_AGENT: Final = "/root"
HEAD: Final = re.compile(r"(?:(?:Chunk ID|Wall time): [^\n]*\n)+")
"""How the output of a command begins: with what differs in every one."""
OK: Final = range(200, 400)


def of_log(log: Log) -> dict[str, Any] | None:
    """The call that a log record tells of; None if it is none of these."""
    attributes = log.resource | log.attributes
    match attributes.get("event.name"):
        case "codex.sse_event" if "input_token_count" in attributes:
            return _about(log, attributes, *_counts(attributes)) | _response(attributes)
        case "codex.api_request" if _failed(attributes):
            return _about(log, attributes, "error", text(attributes, "attempt") or "") | _error(attributes)
        case "codex.tool_result":
            call_id = text(attributes, "call_id") or str(log.time_ns)
            return _about(log, attributes) | _tool_result(attributes, call_id)
        case _:
            return None


def _about(log: Log, attributes: Attributes, *what: str | int) -> dict[str, Any]:
    """Codex has no id of a request: session, time and what it says stand for one."""
    told = about(log, attributes, attributes.get("conversation.id"), WORKFLOW)
    place = str(attributes.get("event.timestamp") or log.time_ns)
    told |= {"event_id": derived_id(WORKFLOW, told.get("session_id", ""), place, *what)}
    if "environment" not in told and (environment := text(attributes, "env")):
        told["environment"] = environment
    if "agent" not in told and (agent := text(attributes, "agent_name")) not in (None, MAIN_AGENT):
        told["agent"] = agent
    return told


def _counts(attributes: Attributes) -> tuple[int, int]:
    return count(attributes, "input_token_count"), count(attributes, "output_token_count")


def _failed(attributes: Attributes) -> bool:
    return "error.message" in attributes or count(attributes, "http.response.status_code") not in (0, *OK)


def _model(attributes: Attributes) -> dict[str, Any]:
    return {"type": "llm_call", "model": text(attributes, "model", "slug") or "unknown", "provider": "openai"}


def _response(attributes: Attributes) -> dict[str, Any]:
    given, made = _counts(attributes)
    reasoning = count(attributes, "reasoning_token_count")
    return _model(attributes) | {
        "input_tokens": given,
        "cache_read_tokens": count(attributes, "cached_token_count"),
        "cache_write_tokens": count(attributes, "cache_write_token_count"),
        "output_tokens": max(made, reasoning),
        "reasoning_tokens": reasoning,
    }


def _error(attributes: Attributes) -> dict[str, Any]:
    """A request that came to nothing. Its error text may hold somebody's words: the status is enough."""
    status = text(attributes, "http.response.status_code") or "no_answer"
    failed = {"status": "error", "error_type": status, "cost_nanousd": 0}
    return _model(attributes) | failed | {"attempt": count(attributes, "attempt") + 1}


def _tool_result(attributes: Attributes, call_id: str) -> dict[str, Any]:
    name, output = text(attributes, "tool_name") or "unnamed", attributes.get("output")
    call: dict[str, Any] = {
        "event_id": derived_id(WORKFLOW, "tool", str(attributes.get("conversation.id", "")), call_id),
        "type": "tool_call",
        "tool": name,
        "writes": name in WRITES,
    }
    if "arguments" in attributes:
        call["args_hash"] = args_hash(attributes["arguments"])
    if output is not None:
        call |= result_hashes(HEAD.sub("", output, count=1) if isinstance(output, str) else output)
    if says(attributes, "success", "false"):
        call |= {"status": "error", "error_type": "tool_error"}
    return call
