"""What OTLP's clients take for an answer, whichever signal they send: protobuf or JSON, as they asked."""

from collections.abc import Callable
from typing import Any, Final

import msgspec
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from streams.gateway.sources.batch import Batch
from streams.gateway.sources.source import JSON, Answer, Headers

PROTOBUF: Final = "application/x-protobuf"
Response = type[ExportTraceServiceResponse | ExportLogsServiceResponse | ExportMetricsServiceResponse]


def is_json(headers: Headers) -> bool:
    """Whether a request, and with it its answer, is JSON."""
    return headers.get("Content-Type", "").partition(";")[0].strip().lower() == JSON


def taken(response: Response, rejected_json: str, rejected_protobuf: str) -> Callable[[Headers, Batch], Answer]:
    """The answer once a request is written. A partial success is one that must not be sent again.

    Args:
        response: the signal's own message.
        rejected_json: how it calls the number of what was rejected, in JSON.
        rejected_protobuf: the same in protobuf.
    """

    def answer(headers: Headers, batch: Batch) -> Answer:
        words = "; ".join(dict.fromkeys(one.detail for one in batch.rejected[:3]))
        if is_json(headers):
            told: dict[str, Any] = {rejected_json: str(len(batch.rejected)), "errorMessage": words}
            return Answer(200, msgspec.json.encode({"partialSuccess": told} if batch.rejected else {}))
        message = response()
        if batch.rejected:
            setattr(message.partial_success, rejected_protobuf, len(batch.rejected))
            message.partial_success.error_message = words
        return Answer(200, message.SerializeToString(), PROTOBUF)

    return answer


def problem(headers: Headers, status: int, text: str) -> Answer:
    """A `google.rpc.Status`, which has its message as field 2."""
    if is_json(headers):
        return Answer(status, msgspec.json.encode({"message": text}))
    message = text.encode()[:120]
    return Answer(status, b"\x12" + bytes([len(message)]) + message, PROTOBUF)
