"""Attributes of OTLP, protobuf and JSON, as plain values by name, and what else all its signals share.

Of the JSON only what is named here is read. Its ids are hexadecimal, other than in protobuf's own JSON, and its
integers may be text: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from streams.gateway.sources.batch import Unreadable

MOST_ITEMS: Final = 10_000
"""Spans or log records of one request."""
MOST_DEPTH: Final = 100
STRUCTURED: Final = frozenset({"gen_ai.tool.call.arguments", "gen_ai.tool.call.result"})
"""Attributes that may be lists or maps, and are wanted all the same: they are taken as JSON."""
Scalar = str | int | float | bool
Attributes = dict[str, Scalar]


class JsonValue(msgspec.Struct):
    """`AnyValue` in JSON; lists and maps are not looked into unless somebody asks."""

    stringValue: str | None = None  # noqa: N815 - as OTLP names it, here and below
    intValue: int | str | None = None  # noqa: N815
    doubleValue: float | None = None  # noqa: N815
    boolValue: bool | None = None  # noqa: N815
    arrayValue: msgspec.Raw = msgspec.Raw()  # noqa: N815
    kvlistValue: msgspec.Raw = msgspec.Raw()  # noqa: N815


class JsonAttribute(msgspec.Struct):
    """`KeyValue` in JSON."""

    key: str = ""
    value: JsonValue | None = None


class JsonResource(msgspec.Struct):
    """What is true of all that the same process sends."""

    attributes: list[JsonAttribute] = []


def of_protobuf(attributes: Iterable[KeyValue]) -> Attributes:
    """Attributes by name."""
    return dict(_of_protobuf(attributes))


def of_json(attributes: Iterable[JsonAttribute]) -> Attributes:
    """The same from JSON."""
    return dict(_of_json(attributes))


def whole(value: object) -> int | None:
    """A whole number, if that is what the value is or says."""
    if isinstance(value, bool):
        return None
    try:
        return int(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        return None


def check_count(items: int, what: str) -> None:
    """Raises `Unreadable` for more than are read at once."""
    if items > MOST_ITEMS:
        raise Unreadable(f"{items:,} {what} in one request; at most {MOST_ITEMS:,} are read")


def _of_protobuf(attributes: Iterable[KeyValue]) -> Iterator[tuple[str, Scalar]]:
    for attribute in attributes:
        kind = attribute.value.WhichOneof("value")
        if kind in ("string_value", "int_value", "double_value", "bool_value"):
            yield attribute.key, getattr(attribute.value, kind)
        elif kind in ("array_value", "kvlist_value") and attribute.key in STRUCTURED:
            yield attribute.key, json.dumps(_plain_protobuf(attribute.value))


def _of_json(attributes: Iterable[JsonAttribute]) -> Iterator[tuple[str, Scalar]]:
    for attribute in attributes:
        value = attribute.value
        if value is None:
            continue
        for told in (value.stringValue, whole(value.intValue), value.doubleValue, value.boolValue):
            if told is not None:
                yield attribute.key, told
                break
        else:
            if attribute.key in STRUCTURED:
                yield attribute.key, json.dumps(_nested(value))


def _plain_protobuf(value: AnyValue) -> Any:
    """Protobuf itself bounds how deep a message goes."""
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return [_plain_protobuf(item) for item in value.array_value.values]
        case "kvlist_value":
            return {item.key: _plain_protobuf(item.value) for item in value.kvlist_value.values}
        case "bytes_value":
            return value.bytes_value.hex()
        case kind:
            return getattr(value, kind)


def _nested(value: JsonValue) -> Any:
    for name, raw in (("arrayValue", value.arrayValue), ("kvlistValue", value.kvlistValue)):
        if bytes(raw):
            try:
                return _plain_json({name: msgspec.json.decode(raw)})
            except RecursionError:
                return None
    return None


def _plain_json(value: Any, depth: int = 0) -> Any:
    """What an `AnyValue` says; of anything that is none, or too deep, nothing."""
    if not isinstance(value, dict) or depth > MOST_DEPTH:
        return None
    match value:
        case {"arrayValue": {"values": [*items]}}:
            return [_plain_json(item, depth + 1) for item in items]
        case {"kvlistValue": {"values": [*items]}}:
            pairs = [item for item in items if isinstance(item, dict)]
            return {str(item.get("key")): _plain_json(item.get("value"), depth + 1) for item in pairs}
        case {"intValue": number} if number is not None:
            return whole(number)
        case _:
            return next((told for told in value.values() if told is not None), None)
