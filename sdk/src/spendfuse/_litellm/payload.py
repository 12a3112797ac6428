"""LiteLLM's standard logging payload, as usage. Of prompts, answers, headers and error texts nothing is read."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from spendfuse import hash_of
from spendfuse._usage.wire import ATTRIBUTION

LONGEST_ID = 128
LONGEST_NAME = 256
MOST_TAGS = 16
MOST_NANOUSD = 10**15

MODEL_CALLS = re.compile(
    r"_?a?(completion|text_completion|embedding|responses|anthropic_messages|generate_content(_stream)?|realtime|"
    r"compact_responses|image_generation|image_edit|transcription|speech|rerank|moderation|ocr)"
)
"""Call types that are charged even if nothing is known of what they used."""
LOOK_UPS = re.compile(r"(^|_)a?(get|list|retrieve|delete|cancel)_(?!batch$)|_(list|retrieve|delete|content)$")
"""Call types that ask for what was made before: a stored answer repeats the usage of the call that made it."""
BATCH = re.compile(r"a?retrieve_batch")
"""Asked for again and again; once it is done, with the cost of the whole batch each time."""
TOOL_CALL = "call_mcp_tool"

Usage = dict[str, Any]


def usage_of(payload: Mapping[str, Any]) -> Usage | None:
    """Return the members of a usage.v1 message without its tenant; None for what says nothing of spend.

    A tool call has its `args` and `result` as they were: whoever calls this puts hashes in their place.
    Raises ValueError for a payload without an id or a time.
    """
    metadata = _mapping(payload.get("metadata"))
    call_type = str(payload.get("call_type") or "")
    if metadata.get("is_silent_experiment") or _was_denied(payload) or LOOK_UPS.search(call_type):
        return None
    usage = _about(payload, metadata)
    if call_type == TOOL_CALL:
        return usage | _tool_call(_mapping(metadata.get("mcp_tool_call_metadata")))
    call = _model_call(payload, _mapping(metadata.get("usage_object")))
    known = call.get("input_tokens") or call.get("output_tokens") or call.get("cost_nanousd")
    if not known and usage["status"] == "ok" and not MODEL_CALLS.fullmatch(call_type):
        return None
    return usage | call


def _was_denied(payload: Mapping[str, Any]) -> bool:
    """Whether a guardrail ended the call before any model was asked."""
    fields = _mapping(payload.get("status_fields"))
    denied = fields.get("guardrail_status") == "guardrail_intervened" and payload.get("status") == "failure"
    return denied and not _count(payload, "total_tokens")


def _about(payload: Mapping[str, Any], metadata: Mapping[str, Any]) -> Usage:
    """What every message says: which event, when, whose."""
    started_ms, ended_ms = _ms(payload.get("startTime")), _ms(payload.get("endTime"))
    ts_ms = ended_ms or started_ms
    if ts_ms is None:
        raise ValueError("neither endTime nor startTime is a time")
    about = {
        "event_id": _event_id(payload, started_ms),
        "ts_ms": ts_ms,
        "run_id": run_id_of(payload),
        "session_id": id_of(payload.get("session_id")),
        "status": "error" if payload.get("status") == "failure" else "ok",
        "started_ms": started_ms,
        "latency_ms": None if started_ms is None else max(0, ts_ms - started_ms),
        **attribution_of(payload, metadata),
    }
    return {name: value for name, value in about.items() if value is not None}


def run_id_of(payload: Mapping[str, Any]) -> str | None:
    """Return the trace that LiteLLM sees a call in; a call of none is a run of its own."""
    return next(filter(None, (id_of(payload.get(name)) for name in ("trace_id", "litellm_call_id", "id"))), None)


def _event_id(payload: Mapping[str, Any], started_ms: int | None) -> str:
    """Derived: attempts that failed share the id of their call, and differ in when they began."""
    given = payload.get("id") or payload.get("litellm_call_id")
    if not given:
        raise ValueError("it has no id")
    if BATCH.fullmatch(str(payload.get("call_type"))):
        return hash_of(["litellm", "batch", str(given)])
    return hash_of(
        ["litellm", str(given), str(payload.get("status")), str(started_ms), str(payload.get("model_id") or "")]
    )


def attribution_of(payload: Mapping[str, Any], metadata: Mapping[str, Any]) -> Usage:
    """Whose spend it is: what the caller names goes before what the proxy knows of its key."""
    said: Usage = {
        "owner": metadata.get("user_api_key_team_alias") or metadata.get("user_api_key_alias"),
        "project": metadata.get("user_api_key_project_alias"),
        "user": payload.get("end_user")
        or metadata.get("user_api_key_end_user_id")
        or metadata.get("user_api_key_user_id"),
    }
    tags: dict[str, str] = {}
    for tag in _texts(payload.get("request_tags")):
        name, colon, value = (part.strip() for part in tag.partition(":"))
        if name in ATTRIBUTION and value:
            said[name] = value
        elif name and name != "User-Agent":
            tags[name[:LONGEST_NAME]] = value[:LONGEST_NAME] if colon else "true"
    for given in (_mapping(metadata.get("requester_metadata")), _mapping(metadata.get("spend_logs_metadata"))):
        said |= {name: given[name] for name in ATTRIBUTION if isinstance(given.get(name), str)}
    named: Usage = {name: text for name, value in said.items() if (text := _name(value))}
    return named | ({"tags": dict(list(tags.items())[:MOST_TAGS])} if tags else {})


def _model_call(payload: Mapping[str, Any], usage: Mapping[str, Any]) -> Usage:
    given, made = _mapping(usage.get("prompt_tokens_details")), _mapping(usage.get("completion_tokens_details"))
    written = _mapping(given.get("cache_creation_token_details"))
    error = _mapping(payload.get("error_information"))
    output = _count(payload, "completion_tokens")
    counts = {
        "input_tokens": _count(payload, "prompt_tokens"),
        "cache_read_tokens": _count(given, "cached_tokens") or _count(usage, "cache_read_input_tokens"),
        "cache_write_tokens": _count(usage, "cache_creation_input_tokens") or _count(given, "cache_creation_tokens"),
        "cache_write_1h_tokens": _count(written, "ephemeral_1h_input_tokens"),
        "input_audio_tokens": _count(given, "audio_tokens"),
        "output_tokens": max(output, _count(made, "reasoning_tokens")),
        "reasoning_tokens": _count(made, "reasoning_tokens"),
        "output_audio_tokens": _count(made, "audio_tokens"),
        "output_image_tokens": _count(made, "image_tokens"),
        "web_searches": _count(_mapping(usage.get("server_tool_use")), "web_search_requests"),
    }
    failed = payload.get("status") == "failure"
    is_hit = payload.get("cache_hit") is True
    cost_nanousd = _cost_nanousd(payload)
    if is_hit or (failed and cost_nanousd is None and not any(counts.values())):
        cost_nanousd = 0
    call = {
        "type": "llm_call",
        "model": _name(payload.get("model")) or "unknown",
        "provider": _name(payload.get("custom_llm_provider")),
        "route": _name(payload.get("model_group")),
        **{name: count for name, count in counts.items() if count},
        "cost_nanousd": cost_nanousd,
        "price_source": None if cost_nanousd is None else "reported:litellm",
        "error_type": _name(error.get("error_class")) if failed else None,
        "cache_hit": is_hit or None,
    }
    return {name: value for name, value in call.items() if value is not None}


def _cost_nanousd(payload: Mapping[str, Any]) -> int | None:
    """LiteLLM writes 0.0 for what it knows no price of, and for some streams whose parts it has priced."""
    for usd in (payload.get("response_cost"), _mapping(payload.get("cost_breakdown")).get("total_cost")):
        try:
            amount = Decimal(str(usd)) * 10**9 if isinstance(usd, (int, float, str)) else Decimal(0)
            nanousd = int(amount.to_integral_value(ROUND_HALF_UP)) if amount.is_finite() else 0
        except (InvalidOperation, OverflowError):
            continue
        if 0 < nanousd <= MOST_NANOUSD:
            return nanousd
    return None


def _tool_call(call: Mapping[str, Any]) -> Usage:
    name = _name(call.get("namespaced_tool_name")) or _name(call.get("name")) or "unnamed"
    return {"type": "tool_call", "tool": name, "args": call.get("arguments"), "result": call.get("result")}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, (list, tuple)) else []


def _count(given: Mapping[str, Any], name: str) -> int:
    value = given.get(name)
    return max(0, int(value)) if isinstance(value, (int, float)) and abs(value) < 10**12 else 0


def _name(value: object) -> str | None:
    return value[:LONGEST_NAME] if isinstance(value, str) and value else None


def id_of(value: object) -> str | None:
    """Return an id as it is, or its hash if it is too long to be one; None for what is none."""
    if not isinstance(value, str) or not value:
        return None
    return value if len(value) <= LONGEST_ID else hash_of(value)


def _ms(value: object) -> int | None:
    """Seconds since 1970, or a date and time as text, which older versions write: in UTC if it names no zone.

    What is left of a millisecond is cut off, as LiteLLM's own database does: the same call has the same time there.
    """
    try:
        if isinstance(value, str):
            at = datetime.fromisoformat(value)
            value = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
        elif isinstance(value, datetime):
            value = value.timestamp()
        return int(Decimal(str(value)) * 1000) if isinstance(value, (int, float)) and value > 0 else None
    except (ValueError, OverflowError, InvalidOperation):
        return None
