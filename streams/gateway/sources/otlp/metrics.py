"""`POST /v1/metrics`: accepted, counted and never charged. What a metric sums up, logs or spans report call by call."""

from typing import Any, Final

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from schemas.codec import UNREADABLE
from schemas.edge.access_key import AccessKey
from streams.gateway.sources.batch import Batch, Unreadable
from streams.gateway.sources.otlp.answers import is_json, problem, taken
from streams.gateway.sources.source import Headers, Source


class _Scope(msgspec.Struct):
    metrics: list[msgspec.Raw] = []


class _Of(msgspec.Struct):
    scopeMetrics: list[_Scope] = []  # noqa: N815 - as OTLP names it, here and below


class _Metrics(msgspec.Struct):
    resourceMetrics: list[_Of] = []  # noqa: N815


_decode: Final = msgspec.json.Decoder(_Metrics).decode


def read_metrics(headers: Headers, body: bytes, _: AccessKey) -> Batch:
    """Count the metrics. Raises `Unreadable`."""
    return Batch(ignored=_json(body) if is_json(headers) else _protobuf(body))


def _json(body: bytes) -> int:
    try:
        metrics: Any = _decode(body or b"{}")
    except UNREADABLE as error:
        raise Unreadable(f"this is no OTLP/JSON metrics export: {error}") from None
    return sum(len(scope.metrics) for of in metrics.resourceMetrics for scope in of.scopeMetrics)


def _protobuf(body: bytes) -> int:
    try:
        request = ExportMetricsServiceRequest.FromString(body)
    except DecodeError:
        raise Unreadable("this is no ExportMetricsServiceRequest; is the exporter set to http/protobuf?") from None
    return sum(len(scope.metrics) for of in request.resource_metrics for scope in of.scope_metrics)


METRICS: Final = Source(
    "otlp-metrics",
    read_metrics,
    taken(ExportMetricsServiceResponse, "rejectedDataPoints", "rejected_data_points"),
    problem,
)
