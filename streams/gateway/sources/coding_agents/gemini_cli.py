"""Gemini CLI: its events `gemini_cli.api_response`, `gemini_cli.api_error` and `gemini_cli.tool_call`.

Thoughts stand beside the output, and what a tool brought into the prompt beside the input. Its log records and spans
of OpenTelemetry's conventions tell the same calls once more, and are passed over.
"""

from typing import Any, Final

from models.identity import derived_id
from streams.fingerprints import args_hash
from streams.gateway.sources.coding_agents.call import about, count, says, text
from streams.gateway.sources.otlp.log import Log
from streams.gateway.sources.otlp.values import Attributes

WORKFLOW: Final = "gemini-cli"
WRITES: Final = frozenset({"replace", "write_file"})
"""Tools that change something."""


def of_log(log: Log) -> dict[str, Any] | None:
    """The call that a log record tells of; None if it is none of these."""
    attributes = log.resource | log.attributes
    match attributes.get("event.name"):
        case "gemini_cli.api_response":
            return _about(log, attributes, "response", _input(attributes), _output(attributes)) | _response(attributes)
        case "gemini_cli.api_error":
            return _about(log, attributes, "error") | _error(attributes)
        case "gemini_cli.tool_call":
            name = text(attributes, "function_name") or "unnamed"
            return _about(log, attributes, "tool", name) | _tool_call(attributes, name)
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


def _tool_call(attributes: Attributes, name: str) -> dict[str, Any]:
    """With a hash of the arguments where they are told (`logPrompts`); a result never is."""
    call: dict[str, Any] = {"type": "tool_call", "tool": name, "writes": name in WRITES}
    if "function_args" in attributes:
        call["args_hash"] = args_hash(attributes["function_args"])
    if says(attributes, "decision", "reject"):
        return call | {"status": "error", "error_type": "user_rejected"}
    if says(attributes, "success", "false"):
        call |= {"status": "error", "error_type": text(attributes, "error_type") or "tool_error"}
    return call
