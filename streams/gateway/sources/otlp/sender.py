"""Who sends spans. Their ids are derived, so that a sender's retry, another replica and a later poll agree."""

from collections.abc import Callable
from typing import Final, NamedTuple

from models.identity import derived_id
from streams.gateway.sources.otlp.span import Span


class Sender(NamedTuple):
    """One kind of sender."""

    name: str
    """Whose word a price is."""
    event_id: Callable[[Span], str]


def by_span(span: Span) -> str:
    """For those whose API names a span again, and not what the model's answer was called."""
    return derived_id("otel", span.trace_id, span.span_id)


def _by_response_in_trace(span: Span) -> str:
    """Instrumentations within each other report one response twice, in one trace; an answer from a cache repeats the
    response of another.
    """
    response = span.attributes.get("gen_ai.response.id")
    if response and not span.attributes.get("gen_ai.response.cache_hit"):
        return derived_id("otel", span.trace_id, str(response))
    return by_span(span)


def _by_generation(span: Span) -> str:
    """OpenRouter's ids of generations are its own, whatever trace its caller says they belong to."""
    generation = span.attributes.get("gen_ai.response.id")
    return derived_id("openrouter", str(generation)) if generation else by_span(span)


OTEL: Final = Sender("otel", _by_response_in_trace)
LANGFUSE: Final = Sender("langfuse", by_span)
BRAINTRUST: Final = Sender("braintrust", by_span)
OPENROUTER: Final = Sender("openrouter", _by_generation)
