"""OTLP traces, protobuf and JSON, as plain spans: ids, times, status, and attributes by name."""

from typing import Final, NamedTuple

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from schemas.codec import UNREADABLE
from streams.gateway.sources.batch import Unreadable
from streams.gateway.sources.otlp.values import (
    Attributes,
    JsonAttribute,
    JsonResource,
    check_count,
    of_json,
    of_protobuf,
    whole,
)

ERROR: Final = 2
"""Status code of a span that failed."""


class Span(NamedTuple):
    """One span, whatever it came as."""

    trace_id: str
    span_id: str
    started_ns: int
    ended_ns: int
    failed: bool
    attributes: Attributes
    resource: Attributes
    """What is true of all that the same process sends."""
    name: str = ""


class _Status(msgspec.Struct):
    code: int | str = 0


class _Span(msgspec.Struct):
    name: str = ""
    traceId: str = ""  # noqa: N815 - as OTLP names it, here and below
    spanId: str = ""  # noqa: N815
    startTimeUnixNano: int | str = 0  # noqa: N815
    endTimeUnixNano: int | str = 0  # noqa: N815
    status: _Status | None = None
    attributes: list[JsonAttribute] = []


class _Scope(msgspec.Struct):
    spans: list[_Span] = []


class _Of(msgspec.Struct):
    resource: JsonResource | None = None
    scopeSpans: list[_Scope] = []  # noqa: N815


class _Traces(msgspec.Struct):
    resourceSpans: list[_Of] = []  # noqa: N815


_decode: Final = msgspec.json.Decoder(_Traces).decode


def read_protobuf(body: bytes) -> list[Span]:
    """The spans of an `ExportTraceServiceRequest`. Raises `Unreadable`."""
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError:
        raise Unreadable("this is no ExportTraceServiceRequest; is the exporter set to http/protobuf?") from None
    check_count(sum(len(scope.spans) for of in request.resource_spans for scope in of.scope_spans), "spans")
    return [
        Span(
            span.trace_id.hex(), span.span_id.hex(), span.start_time_unix_nano, span.end_time_unix_nano,
            span.status.code == ERROR, of_protobuf(span.attributes), resource, span.name,
        )
        for of in request.resource_spans
        for resource in [of_protobuf(of.resource.attributes)]
        for scope in of.scope_spans
        for span in scope.spans
    ]  # fmt: skip


def read_json(body: bytes) -> list[Span]:
    """The same from OTLP's JSON. Raises `Unreadable`."""
    try:
        traces = _decode(body or b"{}")
    except UNREADABLE as error:
        raise Unreadable(f"this is no OTLP/JSON trace export: {error}") from None
    check_count(sum(len(scope.spans) for of in traces.resourceSpans for scope in of.scopeSpans), "spans")
    return [
        Span(
            span.traceId.lower(), span.spanId.lower(), whole(span.startTimeUnixNano) or 0,
            whole(span.endTimeUnixNano) or 0,
            span.status is not None and span.status.code in (ERROR, "STATUS_CODE_ERROR"),
            of_json(span.attributes), resource, span.name,
        )
        for of in traces.resourceSpans
        for resource in [of_json(of.resource.attributes if of.resource else ())]
        for scope in of.scopeSpans
        for span in scope.spans
    ]  # fmt: skip
