"""OTLP traces, protobuf and JSON, as plain spans: ids, times, status, and attributes by name.

Of the JSON only what is named here is read. Its ids are hexadecimal, other than in protobuf's own JSON, and its
integers may be text: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from streams.gateway.sources.batch import Unreadable

MOST_SPANS: Final = 10_000
ERROR: Final = 2
"""Status code of a span that failed."""
Scalar = str | int | float | bool
Attributes = dict[str, Scalar]


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


class _Value(msgspec.Struct):
    stringValue: str | None = None  # noqa: N815 - as OTLP names it, here and below
    intValue: int | str | None = None  # noqa: N815
    doubleValue: float | None = None  # noqa: N815
    boolValue: bool | None = None  # noqa: N815


class _Attribute(msgspec.Struct):
    key: str = ""
    value: _Value | None = None


class _Status(msgspec.Struct):
    code: int | str = 0


class _Span(msgspec.Struct):
    name: str = ""
    traceId: str = ""  # noqa: N815
    spanId: str = ""  # noqa: N815
    startTimeUnixNano: int | str = 0  # noqa: N815
    endTimeUnixNano: int | str = 0  # noqa: N815
    status: _Status | None = None
    attributes: list[_Attribute] = []


class _Scope(msgspec.Struct):
    spans: list[_Span] = []


class _Resource(msgspec.Struct):
    attributes: list[_Attribute] = []


class _Of(msgspec.Struct):
    resource: _Resource | None = None
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
    _check(sum(len(scope.spans) for of in request.resource_spans for scope in of.scope_spans))
    return [
        Span(
            span.trace_id.hex(), span.span_id.hex(), span.start_time_unix_nano, span.end_time_unix_nano,
            span.status.code == ERROR, dict(_scalars(span.attributes)), resource, span.name,
        )
        for of in request.resource_spans
        for resource in [dict(_scalars(of.resource.attributes))]
        for scope in of.scope_spans
        for span in scope.spans
    ]  # fmt: skip


def read_json(body: bytes) -> list[Span]:
    """The same from OTLP's JSON. Raises `Unreadable`."""
    try:
        traces = _decode(body or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"this is no OTLP/JSON trace export: {error}") from None
    _check(sum(len(scope.spans) for of in traces.resourceSpans for scope in of.scopeSpans))
    return [
        Span(
            span.traceId.lower(), span.spanId.lower(), whole(span.startTimeUnixNano) or 0,
            whole(span.endTimeUnixNano) or 0,
            span.status is not None and span.status.code in (ERROR, "STATUS_CODE_ERROR"),
            dict(_plain(span.attributes)), resource, span.name,
        )
        for of in traces.resourceSpans
        for resource in [dict(_plain(of.resource.attributes if of.resource else ()))]
        for scope in of.scopeSpans
        for span in scope.spans
    ]  # fmt: skip


def whole(value: object) -> int | None:
    """A whole number, if that is what the value is or says."""
    if isinstance(value, bool):
        return None
    try:
        return int(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        return None


def _check(spans: int) -> None:
    if spans > MOST_SPANS:
        raise Unreadable(f"{spans:,} spans in one request; at most {MOST_SPANS:,} are read")


def _scalars(attributes: Iterable[KeyValue]) -> Iterator[tuple[str, Scalar]]:
    for attribute in attributes:
        kind = attribute.value.WhichOneof("value")
        if kind in ("string_value", "int_value", "double_value", "bool_value"):
            yield attribute.key, getattr(attribute.value, kind)


def _plain(attributes: Iterable[_Attribute]) -> Iterator[tuple[str, Scalar]]:
    for attribute in attributes:
        value: Any = attribute.value
        if value is None:
            continue
        for told in (value.stringValue, whole(value.intValue), value.doubleValue, value.boolValue):
            if told is not None:
                yield attribute.key, told
                break
