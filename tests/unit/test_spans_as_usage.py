"""What spans of each family come to: charged once, under the right names, and nothing of anybody's text."""

import json
from typing import Any

import msgspec
import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from spendfuse import Emitter
from spendfuse.testing import MemoryTransport

from streams.gateway.sources.otlp.span import Span
from streams.gateway.sources.otlp.usage import usage_of
from streams.gateway.sources.otlp.values import Attributes, JsonAttribute, of_json, of_protobuf

RESOURCE: Attributes = {"service.name": "support-bot", "deployment.environment.name": "prod"}
GENAI: Attributes = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4.1",
}
TOKENS: Attributes = {"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 50}


def span(attributes: Attributes, **more: Any) -> Span:
    given: dict[str, Any] = {
        "trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331",
        "started_ns": 1_790_000_000_000_000_000, "ended_ns": 1_790_000_001_500_000_000, "failed": False,
        "resource": RESOURCE,
    }  # fmt: skip
    return Span(attributes=attributes, **{**given, **more})


CHARGED: dict[str, tuple[Attributes, dict[str, Any]]] = {
    "genai": (
        {**GENAI, **TOKENS, "gen_ai.response.model": "gpt-4.1-2025-04-14", "gen_ai.usage.cache_read.input_tokens": 400,
         "gen_ai.conversation.id": "c-7", "gen_ai.agent.name": "planner"},
        {"model": "gpt-4.1-2025-04-14", "route": "gpt-4.1", "provider": "openai", "input_tokens": 1000,
         "output_tokens": 50, "cache_read_tokens": 400, "session_id": "c-7", "agent": "planner",
         "workflow": "support-bot", "environment": "prod", "latency_ms": 1500, "status": "ok"},
    ),
    "genai of before": (
        {"gen_ai.system": "anthropic", "llm.request.type": "chat", "gen_ai.request.model": "claude-sonnet-4-5",
         "gen_ai.usage.prompt_tokens": 700, "gen_ai.usage.completion_tokens": 30,
         "traceloop.workflow.name": "triage", "traceloop.association.properties.session_id": "s-1"},
        {"model": "claude-sonnet-4-5", "provider": "anthropic", "input_tokens": 700, "output_tokens": 30,
         "workflow": "triage", "session_id": "s-1"},
    ),
    "openinference": (
        {"openinference.span.kind": "LLM", "llm.model_name": "gpt-4o", "llm.provider": "openai",
         "llm.token_count.prompt": 300, "llm.token_count.completion": 40,
         "llm.token_count.prompt_details.cache_read": 100, "llm.token_count.completion_details.reasoning": 10,
         "llm.cost.total": 0.00125, "session.id": "s-2", "user.id": "u-9"},
        {"model": "gpt-4o", "provider": "openai", "input_tokens": 300, "output_tokens": 40, "cache_read_tokens": 100,
         "reasoning_tokens": 10, "cost_nanousd": 1_250_000, "price_source": "reported:otel", "session_id": "s-2",
         "user": "u-9"},
    ),
    "cached tokens beside the input": (
        {**GENAI, "gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 5,
         "gen_ai.usage.cache_read_input_tokens": 9000, "gen_ai.usage.cache_creation_input_tokens": 500},
        {"input_tokens": 9512, "cache_read_tokens": 9000, "cache_write_tokens": 500},
    ),
    "our own names go first": (
        {**GENAI, **TOKENS, "spendfuse.run_id": "run-5", "spendfuse.owner": "team-a", "spendfuse.workflow": "refunds",
         "spendfuse.escalation_reason": "low_confidence"},
        {"run_id": "run-5", "owner": "team-a", "workflow": "refunds", "escalation_reason": "low_confidence"},
    ),
    "reported for nothing": ({**GENAI, **TOKENS, "gen_ai.usage.cost": 0}, {"input_tokens": 1000}),
}  # fmt: skip


@pytest.mark.parametrize("name", CHARGED)
def test_an_inference_is_a_model_call(name: str) -> None:
    """Under whatever names its family has for tokens, model and session."""
    attributes, expected = CHARGED[name]
    usage = usage_of(span(attributes))
    assert usage is not None
    assert {field: usage.get(field) for field in ("type", *expected)} == {"type": "llm_call", **expected}
    assert ("cost_nanousd" in usage) == ("cost_nanousd" in expected)


@pytest.mark.parametrize(
    "attributes",
    [
        {**TOKENS, "gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "gpt-4.1"},
        {**TOKENS, "openinference.span.kind": "AGENT"},
        {**TOKENS, "openinference.span.kind": "CHAIN", "gen_ai.operation.name": "chat"},
        {**TOKENS, "traceloop.span.kind": "workflow", "llm.request.type": "chat"},
        {**TOKENS, **GENAI, "span.type": "span"},
        TOKENS,
        {},
    ],
    ids=["agent", "openinference agent", "chain", "workflow", "grouping", "unnamed", "of something else"],
)
def test_what_sums_up_its_children_is_not_charged(attributes: Attributes) -> None:
    """It repeats the tokens of the calls below it."""
    assert usage_of(span(attributes)) is None


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"},
        {"openinference.span.kind": "TOOL", "tool.name": "search"},
        {"traceloop.span.kind": "tool", "traceloop.entity.name": "search"},
    ],
    ids=["genai", "openinference", "openllmetry"],
)
def test_a_tool_is_a_tool_call(attributes: Attributes) -> None:
    """In every family; one that failed says so."""
    usage = usage_of(span({**attributes, "error.type": "TimeoutError"}))
    assert usage is not None
    assert (usage["type"], usage["tool"], usage["status"]) == ("tool_call", "search", "error")


def test_a_tools_span_says_what_kind_of_error_it_was() -> None:
    """A search without a match, or a person's refusal, is none for the rules."""
    tool: Attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep", "error.type": "no_match"}
    usage = usage_of(span(tool))
    assert usage is not None
    assert (usage["status"], usage["error_type"]) == ("error", "no_match")


def test_a_call_that_failed_before_it_used_anything_costs_nothing() -> None:
    """Else it would count as a call without a price."""
    usage = usage_of(span({**GENAI, "error.type": "RateLimitError"}, failed=True))
    assert usage is not None
    assert (usage["status"], usage["error_type"], usage["cost_nanousd"]) == ("error", "RateLimitError", 0)


def test_one_response_within_a_trace_is_one_event() -> None:
    """Two instrumentations around one call report it twice, in spans of their own; a replay from a cache is another."""
    response: Attributes = {**GENAI, **TOKENS, "gen_ai.response.id": "resp-1"}
    one, other = (usage_of(span(response, span_id=span_id)) for span_id in ("aa", "bb"))
    cached = usage_of(span({**response, "gen_ai.response.cache_hit": True}, span_id="cc"))
    assert one is not None
    assert other is not None
    assert cached is not None
    assert one["event_id"] == other["event_id"] != cached["event_id"]


ARGUMENTS = '{"query": "a-secret-that-must-not-pass-4711", "limit": 5}'
RESULT = '{"hits": [], "took": 12}'
TOLD: dict[str, tuple[Attributes, str, str]] = {
    "genai": ({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"},
              "gen_ai.tool.call.arguments", "gen_ai.tool.call.result"),
    "openinference": ({"openinference.span.kind": "TOOL", "tool.name": "search"}, "input.value", "output.value"),
    "openinference, as parameters": ({"openinference.span.kind": "TOOL", "tool.name": "search"}, "tool.parameters",
                                     "output.value"),
    "openllmetry": ({"traceloop.span.kind": "tool", "traceloop.entity.name": "search"}, "traceloop.entity.input",
                    "traceloop.entity.output"),
    "pydantic ai": ({"gen_ai.tool.name": "search", "gen_ai.tool.call.id": "c1"}, "tool_arguments", "tool_response"),
}  # fmt: skip


@pytest.mark.parametrize("name", TOLD)
def test_arguments_and_result_of_a_tool_are_hashed_as_our_client_hashes_them(name: str) -> None:
    """So that a loop is seen, whatever the spaces and the order of members; the text is gone."""
    attributes, arguments, result = TOLD[name]
    usage = usage_of(span({**attributes, arguments: ARGUMENTS, result: RESULT}))
    again = usage_of(span({**attributes, arguments: '{"limit":5,"query":"a-secret-that-must-not-pass-4711"}',
                           result: RESULT.replace("12", "13")}))  # fmt: skip
    assert usage is not None
    assert again is not None
    emitter = Emitter(MemoryTransport())
    assert usage["args_hash"] == again["args_hash"] == emitter.hash_of(json.loads(ARGUMENTS))
    assert usage["result_hash"] == emitter.hash_of(json.loads(RESULT)) != again["result_hash"]
    assert usage["result_shape_hash"] == again["result_shape_hash"] == emitter.shape_hash_of(json.loads(RESULT))
    assert "4711" not in str(usage)


def test_what_a_tool_may_be_given_is_not_what_it_was_given() -> None:
    """Some write the schema of the arguments into `tool.parameters`: every call would look like the one before."""
    schema = '{"type": "object", "properties": {"query": {"type": "string"}}}'
    usage = usage_of(span({"openinference.span.kind": "TOOL", "tool.name": "search", "tool.parameters": schema}))
    assert usage is not None
    assert "args_hash" not in usage


def test_arguments_as_a_map_are_those_in_a_text() -> None:
    """The conventions allow both, in protobuf and in JSON."""
    said = {"query": "x", "limit": 5, "tags": ["a", True, None], "deep": {"share": 0.5}}
    in_json = {"kvlistValue": {"values": [
        {"key": "query", "value": {"stringValue": "x"}}, {"key": "limit", "value": {"intValue": "5"}},
        {"key": "tags", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"boolValue": True}, {}]}}},
        {"key": "deep", "value": {"kvlistValue": {"values": [{"key": "share", "value": {"doubleValue": 0.5}}]}}},
    ]}}  # fmt: skip
    name = "gen_ai.tool.call.arguments"
    attribute = msgspec.json.decode(json.dumps({"key": name, "value": in_json}), type=JsonAttribute)
    assert json.loads(str(of_json([attribute])[name])) == said
    packed = KeyValue(key=name)
    for key, value in (("query", AnyValue(string_value="x")), ("limit", AnyValue(int_value=5))):
        packed.value.kvlist_value.values.add(key=key).value.CopyFrom(value)
    packed.value.kvlist_value.values.add(key="tags").value.array_value.values.extend(
        [AnyValue(string_value="a"), AnyValue(bool_value=True), AnyValue()]
    )
    deep = packed.value.kvlist_value.values.add(key="deep").value.kvlist_value.values.add(key="share")
    deep.value.double_value = 0.5
    assert json.loads(str(of_protobuf([packed])[name])) == said
    attribute.key = "gen_ai.input.messages"
    assert of_json([attribute]) == {}
