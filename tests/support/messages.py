"""Usage and operator messages with defaults that mean nothing, so that a test states only what it is about."""

from itertools import count
from typing import Any

from schemas.control import Target
from schemas.operator import Acknowledge, Feedback, Kill, LimitException, OperatorMessage, Resume, Verdict
from schemas.usage import CommandAck, LlmCall, Outcome, RunFinished, RunStarted, ToolCall
from streams.clock import wall_ms

USD = 10**9
SECOND_MS = 1000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
MONDAY_MS = 1_795_392_000_000
"""2026-11-23T00:00:00Z, the Monday on which tests happen unless they say otherwise."""
YESTERDAY_MS = wall_ms() - DAY_MS
"""For what a real broker keeps: no retention takes it, no kill runs out and no budget's day ends while a test runs."""

_numbers = count(1)


def llm_call(ts_ms: int, *, usd: float | None = None, **fields: Any) -> LlmCall:
    """A model call. `usd` is its cost in dollars; `cost_nanousd=None` leaves it without a price."""
    if usd is not None:
        fields["cost_nanousd"] = round(usd * USD)
    defaults: dict[str, Any] = {"model": "test-model", "input_tokens": 1000, "output_tokens": 100, "cost_nanousd": 0}
    return LlmCall(**_message(ts_ms, defaults, fields))


def tool_call(ts_ms: int, **fields: Any) -> ToolCall:
    """A tool call. Without `args_hash` it is like no other."""
    return ToolCall(**_message(ts_ms, {"tool": "search"}, fields))


def run_started(ts_ms: int, **fields: Any) -> RunStarted:
    """A run introduces itself."""
    return RunStarted(**_message(ts_ms, {}, fields))


def run_finished(ts_ms: int, **fields: Any) -> RunFinished:
    """A run ends, by default well."""
    return RunFinished(**_message(ts_ms, {"status": "completed"}, fields))


def outcome(ts_ms: int, **fields: Any) -> Outcome:
    """What became of a run's output: accepted, unless said otherwise."""
    return Outcome(**_message(ts_ms, {"outcome": "accepted"}, fields))


def command_ack(ts_ms: int, command_id: str, **fields: Any) -> CommandAck:
    """A guard has obeyed."""
    return CommandAck(**_message(ts_ms, {"command_id": command_id, "acted": "stopped"}, fields))


def kill(ts_ms: int, target: Target, tenant_id: str = "acme", *, until_ms: int | None = None) -> OperatorMessage:
    """An operator stops a target."""
    return Kill(**_order(ts_ms, tenant_id), target=target, until_ms=until_ms)


def resume(ts_ms: int, target_type: Any, target_id: str, tenant_id: str = "acme", **terms: Any) -> OperatorMessage:
    """An operator lets a target go on, with one more allowance unless `terms` say otherwise."""
    return Resume(**_order(ts_ms, tenant_id), target=Target(target_type, target_id), **terms)


def limit_exception(
    ts_ms: int, rule: str, scope: str, limit_nanousd: int, until_ms: int, tenant_id: str = "acme"
) -> OperatorMessage:
    """An operator raises a budget for a while."""
    return LimitException(
        **_order(ts_ms, tenant_id), rule=rule, scope=scope, limit_nanousd=limit_nanousd, until_ms=until_ms
    )


def acknowledge(ts_ms: int, incident_id: str, tenant_id: str = "acme") -> OperatorMessage:
    """Somebody has seen an incident."""
    return Acknowledge(**_order(ts_ms, tenant_id), incident_id=incident_id)


def feedback(ts_ms: int, incident_id: str, verdict: Verdict, tenant_id: str = "acme") -> OperatorMessage:
    """What somebody makes of an incident."""
    return Feedback(**_order(ts_ms, tenant_id), incident_id=incident_id, verdict=verdict)


def _message(ts_ms: int, defaults: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of a message; what a test gives goes before every default."""
    envelope = {"event_id": f"event-{next(_numbers)}", "ts_ms": ts_ms, "tenant_id": "acme", "run_id": "run-1"}
    return {**envelope, **defaults, **fields}


def _order(ts_ms: int, tenant_id: str) -> dict[str, Any]:
    number = next(_numbers)
    return {"message_id": f"order-{number}", "ts_ms": ts_ms, "tenant_id": tenant_id, "who": "ana", "why": "a test"}
