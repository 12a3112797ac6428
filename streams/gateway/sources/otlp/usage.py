"""From spans to usage: which are charged, and what their attributes are called in each family.

OpenTelemetry's GenAI conventions old and new, OpenInference, OpenLLMetry, OpenRouter. A span that sums up its children
(an agent, a chain, a task) repeats their tokens and is never charged.
"""

from typing import Any, Final, Literal

from schemas.usage import ATTRIBUTION
from streams.fingerprints import args_hash, parsed, result_hashes
from streams.gateway.sources.otlp.packed import unpacked
from streams.gateway.sources.otlp.sender import OTEL, Sender
from streams.gateway.sources.otlp.span import Span
from streams.gateway.sources.otlp.values import Attributes, Scalar, whole
from streams.gateway.sources.reported import nanousd_or_none, short_id, short_name

Kind = Literal["model", "tool"]

INFERENCE: Final = frozenset({"chat", "generate_content", "text_completion", "embeddings"})
"""`gen_ai.operation.name` of what is charged."""
KINDS: Final[dict[str, dict[str, Kind]]] = {
    "langfuse.observation.type": {"generation": "model", "embedding": "model", "tool": "tool"},
    "braintrust.span.type": {"llm": "model", "tool": "tool"},
    "span.type": {"generation": "model"},
    "openinference.span.kind": {"LLM": "model", "EMBEDDING": "model", "TOOL": "tool"},
    "gen_ai.operation.name": {**dict.fromkeys(INFERENCE, "model"), "execute_tool": "tool"},
    "traceloop.span.kind": {"tool": "tool"},
    "llm.request.type": {"chat": "model", "completion": "model", "embedding": "model"},
}
"""Attribute -> its value -> what the span is. The first attribute that a span has decides, whatever it says."""

NAMES: Final[dict[str, tuple[str, ...]]] = {
    "model": (
        "langfuse.observation.model.name", "gen_ai.response.model", "llm.response.model_name", "llm.model_name",
        "embedding.model_name", "gen_ai.request.model", "llm.request.model_name",
    ),
    "provider": (
        "trace.metadata.openrouter.provider_slug", "gen_ai.provider.name", "gen_ai.system", "llm.provider",
        "llm.system",
    ),
    "route": ("gen_ai.request.model", "llm.request.model_name"),
    "input_tokens": (
        "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt", "llm.usage.prompt_tokens",
    ),
    "output_tokens": (
        "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion",
        "llm.usage.completion_tokens",
    ),
    "cache_read_tokens": (
        "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.input_tokens.cached", "llm.token_count.prompt_details.cache_read",
    ),
    "cache_write_tokens": (
        "gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens", "llm.token_count.prompt_details.cache_write",
    ),
    "reasoning_tokens": (
        "gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens", "gen_ai.usage.output_tokens.reasoning",
        "llm.token_count.completion_details.reasoning",
    ),
    "cost": (
        "gen_ai.usage.cost", "gen_ai.usage.total_cost", "operation.cost", "litellm.cost.total", "llm.cost.total",
    ),
    "tool": ("gen_ai.tool.name", "tool.name", "traceloop.entity.name"),
    "arguments": (
        "gen_ai.tool.call.arguments", "input.value", "traceloop.entity.input", "tool_arguments", "tool.parameters",
    ),
    "result": ("gen_ai.tool.call.result", "output.value", "traceloop.entity.output", "tool_response"),
    "error_type": ("error.type",),
    "run_id": ("spendfuse.run_id", "trace.metadata.run_id"),
    "session_id": (
        "spendfuse.session_id", "gen_ai.conversation.id", "session.id", "traceloop.association.properties.session_id",
    ),
    "workflow": ("gen_ai.workflow.name", "traceloop.workflow.name", "langfuse.trace.name", "service.name"),
    "agent": ("gen_ai.agent.name", "agent.name"),
    "user": ("user.id", "enduser.id", "traceloop.association.properties.user_id"),
    "environment": ("deployment.environment.name", "deployment.environment", "langfuse.environment"),
    "prompt_version": ("gen_ai.prompt.version", "traceloop.prompt.version"),
    "owner": ("trace.metadata.openrouter.api_key_name",),
}  # fmt: skip
"""Our name -> what the families call it, the surest first. `spendfuse.<our name>` goes before all of them."""
NS_PER_MS: Final = 1_000_000


def usage_of(span: Span, sender: Sender = OTEL) -> dict[str, Any] | None:
    """The members of a usage.v1 message, without its tenant; None for a span that says nothing of spend."""
    own = {**unpacked(span), **span.attributes}
    attributes = {**span.resource, **own}
    match _kind(own):
        case "model":
            return _about(span, attributes, sender) | _model_call(span, attributes, sender)
        case "tool":
            return _about(span, attributes, sender) | _tool_call(attributes)
        case _:
            return None


def _kind(attributes: Attributes) -> Kind | None:
    for name, kinds in KINDS.items():
        if name in attributes:
            return kinds.get(str(attributes[name]))
    # Pydantic AI's tools, as it names them unless told otherwise
    return "tool" if {"gen_ai.tool.name", "gen_ai.tool.call.id"} <= attributes.keys() else None


def _about(span: Span, attributes: Attributes, sender: Sender) -> dict[str, Any]:
    """What every message says: which event, when, whose."""
    started_ms, ended_ms = span.started_ns // NS_PER_MS, span.ended_ns // NS_PER_MS
    failed = span.failed or "error.type" in attributes or attributes.get("langfuse.observation.level") == "ERROR"
    about = {
        "event_id": sender.event_id(span),
        "ts_ms": ended_ms,
        "run_id": _id(attributes, "run_id") or short_id(span.trace_id),
        "session_id": _id(attributes, "session_id"),
        "status": "error" if failed else "ok",
        "started_ms": started_ms or None,
        "latency_ms": max(0, ended_ms - started_ms) if started_ms else None,
        **{name: _name(attributes, name) for name in ATTRIBUTION},
    }
    return {name: value for name, value in about.items() if value is not None}


def _model_call(span: Span, attributes: Attributes, sender: Sender) -> dict[str, Any]:
    tokens = {
        name: _count(attributes, name)
        for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    }
    cached = tokens["cache_read_tokens"] + tokens["cache_write_tokens"]
    if cached > tokens["input_tokens"]:
        tokens["input_tokens"] += cached  # a source that counts them apart, as Anthropic's own answers do
    tokens["output_tokens"] = max(tokens["output_tokens"], tokens["reasoning_tokens"])
    cost_nanousd = nanousd_or_none(_first(attributes, "cost"))
    if cost_nanousd is None and span.failed and not any(tokens.values()):
        cost_nanousd = 0
    call = {
        "type": "llm_call",
        "model": _name(attributes, "model") or "unknown",
        "provider": _name(attributes, "provider"),
        "route": _name(attributes, "route"),
        **{name: count for name, count in tokens.items() if count},
        "cost_nanousd": cost_nanousd,
        "price_source": None if cost_nanousd is None else f"reported:{sender.name}",
        "error_type": _name(attributes, "error_type"),
        "escalation_reason": _name(attributes, "escalation_reason"),
    }
    return {name: value for name, value in call.items() if value is not None}


def _tool_call(attributes: Attributes) -> dict[str, Any]:
    """Of arguments and result only hashes. A tool whose span does not tell them is one that no loop is seen of."""
    call: dict[str, Any] = {"type": "tool_call", "tool": _name(attributes, "tool") or "unnamed"}
    arguments, result = _first(attributes, "arguments"), _first(attributes, "result")
    if arguments is not None and not _is_schema(arguments):
        call["args_hash"] = args_hash(arguments)
    if result is not None:
        call |= result_hashes(result)
    if error_type := _name(attributes, "error_type"):
        call["error_type"] = error_type
    return call


def _is_schema(arguments: Scalar) -> bool:
    """Whether this says what arguments a tool takes, not which it was given: some have that in `tool.parameters`."""
    value = parsed(arguments)
    return isinstance(value, dict) and value.get("type") == "object" and isinstance(value.get("properties"), dict)


def attribution(attributes: Attributes) -> dict[str, str]:
    """Whose spend it is, under our own names or those of the conventions."""
    found = {name: _name(attributes, name) for name in ATTRIBUTION}
    return {name: value for name, value in found.items() if value is not None}


def _first(attributes: Attributes, name: str) -> Scalar | None:
    """The value under the surest of the names that a field has."""
    for known in (f"spendfuse.{name}", *NAMES.get(name, ())):
        value = attributes.get(known)
        if value is not None and value != "":
            return value
    return None


def _name(attributes: Attributes, name: str) -> str | None:
    return short_name(_first(attributes, name))


def _id(attributes: Attributes, name: str) -> str | None:
    return short_id(_first(attributes, name))


def _count(attributes: Attributes, name: str) -> int:
    return max(0, whole(_first(attributes, name)) or 0)
