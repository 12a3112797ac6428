"""An observation as Langfuse's API and its exports have it, as usage. It has the id that the same span is pushed with.

The API writes `traceId`, the export to a store `trace_id`: both are read. Nothing is read of inputs, outputs and status
messages.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from models.identity import derived_id
from schemas.errors import Undecodable
from streams.gateway.sources.reported import nanousd_or_none, prompt_version, short_id, short_name
from streams.gateway.sources.usage_details import tokens_of
from streams.gateway.sources.usage_item import Usage

MODEL_CALLS: Final = ("GENERATION", "EMBEDDING")


class Observation(msgspec.Struct, rename="camel", frozen=True):
    """What is read of one; a column of an export is renamed to it before."""

    id: str
    type: str = ""
    trace_id: str | None = None
    name: str | None = None
    start_time: str | None = None
    end_time: str | None = None
    level: str | None = None
    environment: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    trace_name: str | None = None
    model: str | None = None
    provided_model_name: str | None = None
    usage_details: dict[str, Any] | None = None
    cost_details: dict[str, Any] | None = None
    total_cost: float | str | None = None
    prompt_name: str | None = None
    prompt_version: int | str | None = None


def read_observation(row: Mapping[str, Any]) -> Observation:
    """One of the API's answer, or of an export's lines. Raises `Undecodable`."""
    try:
        return msgspec.convert({_camel(name): value for name, value in row.items()}, Observation)
    except msgspec.ValidationError as error:
        raise Undecodable("wrong_value", f"no observation of Langfuse: {error}") from None


def usage_of(one: Observation) -> Usage | None:
    """The members of its message; None for one that is not ended, or of another kind. Raises `Undecodable`."""
    kind = one.type.upper()
    if one.end_time is None or kind not in (*MODEL_CALLS, "TOOL"):
        return None
    if one.trace_id is None or one.start_time is None:
        raise Undecodable("missing_field", "an observation without a trace or a start")
    started_ms, ended_ms = ms_of(one.start_time), ms_of(one.end_time)
    about = {
        "event_id": derived_id("otel", one.trace_id, one.id),
        "ts_ms": ended_ms,
        "run_id": short_id(one.trace_id),
        "session_id": short_id(one.session_id),
        "status": "error" if one.level == "ERROR" else "ok",
        "started_ms": started_ms,
        "latency_ms": max(0, ended_ms - started_ms),
        "workflow": short_name(one.trace_name),
        "environment": short_name(one.environment),
        "user": short_name(one.user_id),
        "prompt_version": short_name(prompt_version(one.prompt_name, one.prompt_version)),
        **(
            _model_call(one)
            if kind in MODEL_CALLS
            else {"type": "tool_call", "tool": short_name(one.name) or "unnamed"}
        ),
    }
    return {name: value for name, value in about.items() if value is not None}


def _model_call(one: Observation) -> Usage:
    tokens = tokens_of(one.usage_details or {})
    cost_nanousd = nanousd_or_none((one.cost_details or {}).get("total", one.total_cost))
    if cost_nanousd is None and one.level == "ERROR" and not tokens:
        cost_nanousd = 0
    return {
        "type": "llm_call",
        "model": short_name(one.model or one.provided_model_name) or "unknown",
        "cost_nanousd": cost_nanousd,
        "price_source": None if cost_nanousd is None else "reported:langfuse",
        **tokens,
    }


def _tool_call(one: Observation) -> Usage:
    return {"type": "tool_call", "tool": short_name(one.name) or "unnamed"}


def ms_of(text: str) -> int:
    """A time as Langfuse writes it, in UTC where it names no zone. Raises `Undecodable`."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Undecodable("bad_time", "an observation's time is none") from None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.title() for other in others)
