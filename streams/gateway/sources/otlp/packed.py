"""What Langfuse and Braintrust pack into JSON within a span's attributes, under the names that are looked for."""

from typing import Any, Final

import msgspec

from streams.gateway.sources.otlp.span import Span
from streams.gateway.sources.otlp.values import Attributes
from streams.gateway.sources.reported import prompt_version
from streams.gateway.sources.usage_details import tokens_of

LANGFUSE: Final = "langfuse.observation.type"
BRAINTRUST: Final = "braintrust.span_attributes"
_BRAINTRUST_METRICS: Final = {
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
    "cache_read_tokens": "prompt_cached_tokens",
    "cache_write_tokens": "prompt_cache_creation_tokens",
    "reasoning_tokens": "completion_reasoning_tokens",
}
"""Our name -> Braintrust's."""


def unpacked(span: Span) -> Attributes:
    """Further attributes of a span; none for one of another family."""
    if LANGFUSE in span.attributes:
        return _langfuse(span)
    if BRAINTRUST in span.attributes:
        return _braintrust(span)
    return {}


def _langfuse(span: Span) -> Attributes:
    given = span.attributes
    costs = _object(given, "langfuse.observation.cost_details")
    more: dict[str, Any] = {
        f"spendfuse.{name}": count
        for name, count in tokens_of(_object(given, "langfuse.observation.usage_details")).items()
    }
    more["spendfuse.cost"] = costs.get("total", sum(cost for cost in costs.values() if isinstance(cost, int | float)))
    more["spendfuse.prompt_version"] = prompt_version(
        given.get("langfuse.observation.prompt.name"), given.get("langfuse.observation.prompt.version")
    )
    if given[LANGFUSE] == "tool":
        more |= {
            "gen_ai.tool.name": span.name,
            "gen_ai.tool.call.arguments": given.get("langfuse.observation.input"),
            "gen_ai.tool.call.result": given.get("langfuse.observation.output"),
        }
    return {name: value for name, value in more.items() if value not in (None, "", 0)}


def _braintrust(span: Span) -> Attributes:
    metrics = _object(span.attributes, "braintrust.metrics")
    metadata = _object(span.attributes, "braintrust.metadata")
    more: dict[str, Any] = {f"spendfuse.{ours}": metrics.get(theirs) for ours, theirs in _BRAINTRUST_METRICS.items()}
    more["spendfuse.session_id"] = metadata.get("session_id")
    more["gen_ai.request.model"] = metadata.get("model")
    more["gen_ai.provider.name"] = metadata.get("provider")
    more["gen_ai.tool.name"] = span.name
    more["gen_ai.tool.call.arguments"] = span.attributes.get("braintrust.input_json")
    more["gen_ai.tool.call.result"] = span.attributes.get("braintrust.output_json")
    more["braintrust.span.type"] = _object(span.attributes, BRAINTRUST).get("type")
    return {name: value for name, value in more.items() if isinstance(value, str | int | float) and value}


def _object(attributes: Attributes, name: str) -> dict[str, Any]:
    """What an attribute says as JSON; empty where it is no object."""
    try:
        value = msgspec.json.decode(str(attributes.get(name, "{}")))
    except (msgspec.DecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
