"""`POST` or `PUT /in/openrouter`: OpenRouter's Broadcast, OTLP as JSON. Generations are charged, and nothing else:
spans above them sum up, and spans below them are the attempts at providers that one generation took.
"""

from typing import Final

from schemas.edge.access_key import AccessKey
from streams.gateway.sources.batch import Batch
from streams.gateway.sources.otlp.sender import OPENROUTER as SENDER
from streams.gateway.sources.otlp.span import Span, read_json
from streams.gateway.sources.otlp.traces import read_spans
from streams.gateway.sources.otlp.values import Attributes
from streams.gateway.sources.source import Headers, Source, plain_answer, plain_problem

COSTS: Final = ("gen_ai.usage.total_cost", "gen_ai.usage.cost")


def read_openrouter(headers: Headers, body: bytes, key: AccessKey) -> Batch:
    """Check each generation. A test of the connection says nothing. Raises `Unreadable`."""
    if headers.get("X-Test-Connection", "").lower() == "true":
        return Batch()
    spans = read_json(body)
    generations = [_priced(span) for span in spans if span.attributes.get("span.type") == "generation"]
    batch = read_spans(SENDER, generations, key)
    batch.ignored += len(spans) - len(generations)
    return batch


def _priced(span: Span) -> Span:
    """With a key of one's own, what OpenRouter calls the cost is its fee: what the provider takes comes on top, and
    where nobody says it, the call has no price.
    """
    is_byok = _said(span.attributes, "is_byok")
    upstream = _said(span.attributes, "upstream_inference_cost")
    if is_byok is False or (is_byok is None and not upstream):
        return span
    others = {name: value for name, value in span.attributes.items() if name not in COSTS}
    if not isinstance(upstream, int | float) or not upstream:
        return span._replace(attributes=others)
    fee = next((span.attributes[name] for name in COSTS if name in span.attributes), 0)
    return span._replace(attributes={**others, COSTS[0]: upstream + (fee if isinstance(fee, int | float) else 0)})


def _said(attributes: Attributes, what: str) -> object:
    """The value of the attribute that ends in this name, wherever it is put; None without one."""
    return next((value for name, value in attributes.items() if name.endswith(what)), None)


OPENROUTER: Final = Source("openrouter", read_openrouter, plain_answer, plain_problem, methods=("POST", "PUT"))
