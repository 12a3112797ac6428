"""`POST /v1/traces`: OTLP over HTTP, protobuf or JSON, answered as its specification says."""

from collections.abc import Iterable
from functools import partial
from typing import Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from schemas.codec import decode_usage, encode
from schemas.edge.access_key import AccessKey
from schemas.errors import Undecodable
from streams.gateway.sources.batch import Batch, Item, Rejected
from streams.gateway.sources.coding_agents import claude_code
from streams.gateway.sources.otlp.answers import is_json, problem, taken
from streams.gateway.sources.otlp.sender import BRAINTRUST, LANGFUSE, OTEL, Sender
from streams.gateway.sources.otlp.span import Span, read_json, read_protobuf
from streams.gateway.sources.otlp.usage import usage_of
from streams.gateway.sources.source import Headers, Source


def read_traces(sender: Sender, headers: Headers, body: bytes, key: AccessKey) -> Batch:
    """Check each span. Raises `Unreadable`."""
    return read_spans(sender, read_json(body) if is_json(headers) else read_protobuf(body), key)


def read_spans(sender: Sender, spans: Iterable[Span], key: AccessKey) -> Batch:
    """What the spans of a request come to."""
    batch = Batch()
    for place, span in enumerate(spans):
        try:
            value = _value(span, key, sender)
        except Undecodable as fault:
            batch.rejected.append(Rejected(place, fault.reason, fault.detail, b""))
            continue
        if value is None:
            batch.ignored += 1
        else:
            batch.items.append(Item(key.tenant_id, value))
    return batch


def _value(span: Span, key: AccessKey, sender: Sender) -> bytes | None:
    if not span.trace_id or not span.span_id:
        raise Undecodable("missing_field", "a span without ids; are these logs, sent to /v1/traces?")
    members = claude_code.of_span(span) or usage_of(span, sender)
    if members is None:
        return None
    value = encode(members | {"tenant_id": key.tenant_id})
    decode_usage(value)
    return value


def traces_of(sender: Sender, name: str) -> Source:
    """A source of spans."""
    answer = taken(ExportTraceServiceResponse, "rejectedSpans", "rejected_spans")
    return Source(name, partial(read_traces, sender), answer, problem)


TRACES: Final = traces_of(OTEL, "otlp-traces")
LANGFUSE_TRACES: Final = traces_of(LANGFUSE, "langfuse")
"""Where Langfuse's own client sends to."""
BRAINTRUST_TRACES: Final = traces_of(BRAINTRUST, "braintrust")
