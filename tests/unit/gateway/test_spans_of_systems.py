"""What Langfuse, Braintrust, OpenRouter and Portkey put into spans, as usage."""

import json
from typing import Any

import pytest

from models.identity import derived_id
from streams.gateway.sources.otlp.sender import BRAINTRUST, LANGFUSE, OPENROUTER, OTEL, Sender
from streams.gateway.sources.otlp.span import Span
from streams.gateway.sources.otlp.usage import usage_of
from streams.gateway.sources.otlp.values import Attributes

MARKER = "a-secret-that-must-not-pass-4711"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def usage(sender: Sender, attributes: Attributes, **more: Any) -> dict[str, Any] | None:
    given: dict[str, Any] = {
        "trace_id": TRACE, "span_id": SPAN, "started_ns": 1_790_000_000_000_000_000, "failed": False,
        "ended_ns": 1_790_000_001_500_000_000, "resource": {"service.name": "bot"}, "name": "search",
    }  # fmt: skip
    return usage_of(Span(attributes=attributes, **{**given, **more}), sender)


LANGFUSE_CALL: Attributes = {
    "langfuse.observation.type": "generation", "langfuse.observation.model.name": "claude-sonnet-4-5",
    "langfuse.observation.usage_details": '{"input": 12, "input_cache_read": 900, "output": 40}',
    "langfuse.observation.cost_details": '{"input": 0.001, "output": 0.00025}', "langfuse.environment": "prod",
    "langfuse.observation.prompt.name": "support", "langfuse.observation.prompt.version": 3,
    "langfuse.trace.name": "triage", "user.id": "u-1", "session.id": "s-1", "langfuse.observation.input": MARKER,
}  # fmt: skip
PACKED: Attributes = {
    "braintrust.metrics": '{"prompt_tokens": 1000, "completion_tokens": 50, "prompt_cached_tokens": 900}',
    "braintrust.metadata": json.dumps({"model": "gpt-4.1", "session_id": "s-1", "note": MARKER}),
    "braintrust.input_json": json.dumps(MARKER), "braintrust.output_json": json.dumps(MARKER),
}  # fmt: skip
PORTKEY_CALL: Attributes = {
    "gen_ai.operation.name": "chat", "gen_ai.provider.name": "anthropic", "gen_ai.request.model": "claude-sonnet-4-5",
    "gen_ai.response.model": "claude-sonnet-4-5-20250929", "gen_ai.response.id": "msg_1",
    "gen_ai.usage.input_tokens": 1012, "gen_ai.usage.output_tokens": 40, "gen_ai.usage.cache_read.input_tokens": 900,
    "gen_ai.usage.cache_creation.input_tokens": 100, "gen_ai.conversation.id": "s-1",
    "gen_ai.input.messages": MARKER, "gen_ai.output.messages": MARKER,
}  # fmt: skip
CALLS: dict[str, tuple[Sender, Attributes, dict[str, Any]]] = {
    "Langfuse's generation": (
        LANGFUSE, LANGFUSE_CALL,
        {"model": "claude-sonnet-4-5", "input_tokens": 912, "cache_read_tokens": 900, "output_tokens": 40,
         "cost_nanousd": 1_250_000, "price_source": "reported:langfuse", "prompt_version": "support@3",
         "workflow": "triage", "environment": "prod", "user": "u-1", "session_id": "s-1",
         "event_id": derived_id("otel", TRACE, SPAN)},
    ),
    "Langfuse's, failed": (
        LANGFUSE, {"langfuse.observation.type": "generation", "langfuse.observation.level": "ERROR"},
        {"status": "error", "model": "unknown"},
    ),
    "another instrumentation's, sent to Langfuse": (
        LANGFUSE, PORTKEY_CALL, {"event_id": derived_id("otel", TRACE, SPAN), "input_tokens": 1012},
    ),
    "Braintrust's": (
        BRAINTRUST, {**PACKED, "braintrust.span_attributes": '{"type": "llm"}'},
        {"model": "gpt-4.1", "input_tokens": 1000, "cache_read_tokens": 900, "output_tokens": 50, "session_id": "s-1"},
    ),
    "OpenRouter's": (
        OPENROUTER, {"span.type": "generation", "gen_ai.response.id": "gen-1", "gen_ai.usage.total_cost": 0.00006958},
        {"cost_nanousd": 69_580, "event_id": derived_id("openrouter", "gen-1")},
    ),
    "Portkey's, as it documents them": (
        OTEL, PORTKEY_CALL,
        {"model": "claude-sonnet-4-5-20250929", "route": "claude-sonnet-4-5", "input_tokens": 1012,
         "cache_read_tokens": 900, "cache_write_tokens": 100, "session_id": "s-1", "cost_nanousd": None,
         "event_id": derived_id("otel", TRACE, "msg_1")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_model_call_of_each_is_charged(name: str) -> None:
    """Under an id that its API, or another gateway, would give it too; without its text."""
    sender, attributes, expected = CALLS[name]
    call = usage(sender, attributes)
    assert call is not None
    assert {field: call.get(field) for field in ("type", *expected)} == {"type": "llm_call", **expected}
    assert MARKER not in json.dumps(call)


@pytest.mark.parametrize(
    ("sender", "attributes"),
    [
        (LANGFUSE, {**LANGFUSE_CALL, "langfuse.observation.type": "agent"}),
        (LANGFUSE, {**LANGFUSE_CALL, "langfuse.observation.type": "span"}),
        (BRAINTRUST, {**PACKED, "braintrust.span_attributes": '{"type": "task"}'}),
        (BRAINTRUST, {**PACKED, "braintrust.span_attributes": '{"type": "function"}'}),
        (BRAINTRUST, {**PACKED, "braintrust.span_attributes": "no JSON"}),
    ],
    ids=["agent", "span", "task", "function", "unreadable"],
)
def test_what_sums_up_is_not(sender: Sender, attributes: Attributes) -> None:
    """Though it repeats the tokens of the calls below it."""
    assert usage(sender, attributes) is None


@pytest.mark.parametrize(
    ("sender", "attributes"),
    [
        (LANGFUSE, {"langfuse.observation.type": "tool", "langfuse.observation.input": json.dumps({"q": MARKER}),
                    "langfuse.observation.output": MARKER}),
        (BRAINTRUST, {**PACKED, "braintrust.span_attributes": '{"type": "tool"}'}),
    ],
    ids=["Langfuse", "Braintrust"],
)  # fmt: skip
def test_a_tool_is_named_by_its_span_and_known_by_its_hashes(sender: Sender, attributes: Attributes) -> None:
    """So that its loops are seen."""
    used = usage(sender, attributes)
    assert used is not None
    assert (used["type"], used["tool"], "args_hash" in used, "result_hash" in used) == (
        "tool_call",
        "search",
        True,
        True,
    )
    assert MARKER not in json.dumps(used)
