"""OTLP logs, protobuf and JSON, as plain log records. Their bodies are not read: they are sentences for people."""

from typing import Final, NamedTuple

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

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


class Log(NamedTuple):
    """One log record, whatever it came as."""

    scope: str
    """What in the sender's process wrote it."""
    time_ns: int
    """When it happened, else when the sender saw it; 0 if it says neither."""
    attributes: Attributes
    resource: Attributes
    """What is true of all that the same process sends."""


class _Record(msgspec.Struct):
    timeUnixNano: int | str = 0  # noqa: N815 - as OTLP names it, here and below
    observedTimeUnixNano: int | str = 0  # noqa: N815
    attributes: list[JsonAttribute] = []


class _ScopeName(msgspec.Struct):
    name: str = ""


class _Scope(msgspec.Struct):
    scope: _ScopeName | None = None
    logRecords: list[_Record] = []  # noqa: N815


class _Of(msgspec.Struct):
    resource: JsonResource | None = None
    scopeLogs: list[_Scope] = []  # noqa: N815


class _Logs(msgspec.Struct):
    resourceLogs: list[_Of] = []  # noqa: N815


_decode: Final = msgspec.json.Decoder(_Logs).decode


def read_protobuf(body: bytes) -> list[Log]:
    """The records of an `ExportLogsServiceRequest`. Raises `Unreadable`."""
    try:
        request = ExportLogsServiceRequest.FromString(body)
    except DecodeError:
        raise Unreadable("this is no ExportLogsServiceRequest; is the exporter set to http/protobuf?") from None
    check_count(sum(len(scope.log_records) for of in request.resource_logs for scope in of.scope_logs), "log records")
    return [
        Log(
            scope.scope.name, record.time_unix_nano or record.observed_time_unix_nano,
            of_protobuf(record.attributes), resource,
        )
        for of in request.resource_logs
        for resource in [of_protobuf(of.resource.attributes)]
        for scope in of.scope_logs
        for record in scope.log_records
    ]  # fmt: skip


def read_json(body: bytes) -> list[Log]:
    """The same from OTLP's JSON. Raises `Unreadable`."""
    try:
        logs = _decode(body or b"{}")
    except UNREADABLE as error:
        raise Unreadable(f"this is no OTLP/JSON log export: {error}") from None
    check_count(sum(len(scope.logRecords) for of in logs.resourceLogs for scope in of.scopeLogs), "log records")
    return [
        Log(
            scope.scope.name if scope.scope else "",
            whole(record.timeUnixNano) or whole(record.observedTimeUnixNano) or 0, of_json(record.attributes), resource,
        )
        for of in logs.resourceLogs
        for resource in [of_json(of.resource.attributes if of.resource else ())]
        for scope in of.scopeLogs
        for record in scope.logRecords
    ]  # fmt: skip
