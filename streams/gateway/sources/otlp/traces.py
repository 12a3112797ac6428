"""`POST /v1/traces`: OTLP over HTTP, protobuf or JSON, answered as its specification says."""

from collections.abc import Iterable
from functools import partial
from typing import Any, Final

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from schemas.codec import decode_usage, encode
from schemas.edge.access_key import AccessKey
from schemas.errors import Undecodable
from streams.gateway.sources.batch import Batch, Item, Rejected
from streams.gateway.sources.otlp.origin import BRAINTRUST, LANGFUSE, OTEL, Origin
from streams.gateway.sources.otlp.span import Span, read_json, read_protobuf
from streams.gateway.sources.otlp.usage import usage_of
from streams.gateway.sources.source import JSON, Answer, Headers, Source

PROTOBUF: Final = "application/x-protobuf"


def read_traces(origin: Origin, headers: Headers, body: bytes, key: AccessKey) -> Batch:
    """Check each span. Raises `Unreadable`."""
    return read_spans(origin, read_json(body) if _is_json(headers) else read_protobuf(body), key)


def read_spans(origin: Origin, spans: Iterable[Span], key: AccessKey) -> Batch:
    """What the spans of a request come to."""
    batch = Batch()
    for place, span in enumerate(spans):
        try:
            value = _value(span, key, origin)
        except Undecodable as fault:
            batch.rejected.append(Rejected(place, fault.reason, fault.detail, b""))
            continue
        if value is None:
            batch.ignored += 1
        else:
            batch.items.append(Item(key.tenant_id, value))
    return batch


def _value(span: Span, key: AccessKey, origin: Origin) -> bytes | None:
    if not span.trace_id or not span.span_id:
        raise Undecodable("missing_field", "a span without ids; are these logs, sent to /v1/traces?")
    members = usage_of(span, origin)
    if members is None:
        return None
    value = encode(members | {"tenant_id": key.tenant_id})
    decode_usage(value)
    return value


def _taken(headers: Headers, batch: Batch) -> Answer:
    """A partial success is one that must not be sent again."""
    words = "; ".join(dict.fromkeys(one.detail for one in batch.rejected[:3]))
    if _is_json(headers):
        told: dict[str, Any] = {"rejectedSpans": str(len(batch.rejected)), "errorMessage": words}
        return Answer(200, msgspec.json.encode({"partialSuccess": told} if batch.rejected else {}))
    response = ExportTraceServiceResponse()
    if batch.rejected:
        response.partial_success.rejected_spans = len(batch.rejected)
        response.partial_success.error_message = words
    return Answer(200, response.SerializeToString(), PROTOBUF)


def _problem(headers: Headers, status: int, text: str) -> Answer:
    """A `google.rpc.Status`, which has its message as field 2."""
    if _is_json(headers):
        return Answer(status, msgspec.json.encode({"message": text}))
    message = text.encode()[:120]
    return Answer(status, b"\x12" + bytes([len(message)]) + message, PROTOBUF)


def _is_json(headers: Headers) -> bool:
    return headers.get("Content-Type", "").partition(";")[0].strip().lower() == JSON


def traces_of(origin: Origin, name: str) -> Source:
    """A source of spans."""
    return Source(name, partial(read_traces, origin), _taken, _problem)


TRACES: Final = traces_of(OTEL, "otlp-traces")
LANGFUSE_TRACES: Final = traces_of(LANGFUSE, "langfuse")
"""Where Langfuse's own client sends to."""
BRAINTRUST_TRACES: Final = traces_of(BRAINTRUST, "braintrust")
