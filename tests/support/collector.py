"""A collector of traces on loopback: takes OTLP over HTTP as the real exporter sends it, and keeps the spans."""

from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.alerting_process import Listening
from tests.support.receivers import Answer, Receiver


class Told(NamedTuple):
    """A span as it arrived."""

    trace_id: str
    span_id: str
    parent_id: str
    service: str
    name: str
    start_ms: int
    end_ms: int
    attributes: dict[str, Any]
    error: str


def collector(*script: Answer) -> Receiver:
    """It takes everything, after it has answered as the script says."""
    return Receiver(lambda _asked, _count: Answer(200, b""), *script)


def spans_at(listening: Listening) -> list[Told]:
    """What it was sent so far."""
    found = []
    for received in list(listening.receiver.received):
        request = ExportTraceServiceRequest.FromString(received.body)
        for resource in request.resource_spans:
            service = next(one.value.string_value for one in resource.resource.attributes if one.key == "service.name")
            found += [_told(service, span) for scope in resource.scope_spans for span in scope.spans]
    return found


def _told(service: str, span: Any) -> Told:
    attributes = {one.key: one.value.string_value or one.value.int_value for one in span.attributes}
    return Told(
        span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), service, span.name,
        span.start_time_unix_nano // 10**6, round(span.end_time_unix_nano / 1e6), attributes, span.status.message,
    )  # fmt: skip
