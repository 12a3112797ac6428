"""The one edge where bytes are checked. Past it, values can be trusted.

Unknown fields are ignored, so that newer producers do not break older readers; wrong types are refused, so that a
string "5" or a `true` never counts as money.
"""

import base64
import hashlib
from typing import Any

import msgspec

from schemas.alert import Alert
from schemas.control import Command
from schemas.dead_letter import DeadLetter, Reason
from schemas.errors import Undecodable
from schemas.operator import OperatorMessage
from schemas.rollup import Rollup
from schemas.usage import UsageMessage

MAX_MESSAGE_BYTES = 64 * 1024
DETAIL_CHARACTERS = 200

_usage = msgspec.json.Decoder(UsageMessage)
_operator = msgspec.json.Decoder(OperatorMessage)
_alert = msgspec.json.Decoder(Alert)
_command = msgspec.json.Decoder(Command)
_rollup = msgspec.json.Decoder(Rollup)
_encoder = msgspec.json.Encoder()


def decode_usage(data: bytes | None) -> UsageMessage:
    """Read one usage.v1 value. Raises `Undecodable` with a reason from the closed list."""
    if not data:
        raise Undecodable("empty", "the record has no value")
    if len(data) > MAX_MESSAGE_BYTES:
        raise Undecodable("too_large", f"{len(data)} bytes; at most {MAX_MESSAGE_BYTES} are read")
    try:
        message: UsageMessage = _usage.decode(data)
    except Exception as error:
        raise undecodable(error) from None
    return message


def decode_operator(data: bytes | None) -> OperatorMessage:
    """Read one operator.v1 value. Raises `Undecodable`."""
    if not data:
        raise Undecodable("empty", "the record has no value")
    try:
        message: OperatorMessage = _operator.decode(data)
    except Exception as error:
        raise undecodable(error) from None
    return message


def decode_alert(data: bytes) -> Alert:
    """Read one alerts.v1 value."""
    return _alert.decode(data)


def decode_command(data: bytes) -> Command:
    """Read one control.v1 value."""
    return _command.decode(data)


def decode_rollup(data: bytes) -> Rollup:
    """Read one rollups.v1 value."""
    return _rollup.decode(data)


def encode(value: Any) -> bytes:
    """Write any of our messages. The same value gives the same bytes."""
    return _encoder.encode(value)


def undecodable(error: Exception) -> Undecodable:
    """Name the fault. Decoders raise three unrelated classes: bad UTF-8 and deep nesting have their own."""
    detail = str(error)[:DETAIL_CHARACTERS]
    return Undecodable(_reason(error, detail), detail)


def _reason(error: Exception, detail: str) -> Reason:
    match error:
        case UnicodeDecodeError():
            return "not_utf8"
        case RecursionError():
            return "too_deep"
        case msgspec.ValidationError() if "missing required field" in detail:
            return "missing_field"
        case msgspec.ValidationError() if detail.endswith("`$.type`"):
            return "unknown_type"
        case msgspec.ValidationError():
            return "wrong_value"
        case msgspec.DecodeError():
            return "not_json"
        case _:
            raise error


def dead_letter(
    topic: str, partition: int, offset: int, key: bytes | None, value: bytes | None, why: Undecodable, ts_ms: int
) -> DeadLetter:
    """Describe a refused record well enough to find and repair it, without keeping all of what it holds."""
    data = value or b""
    return DeadLetter(
        topic=topic,
        partition=partition,
        offset=offset,
        key=None if key is None else key[:256].decode("utf-8", "replace"),
        reason=why.reason,
        detail=why.detail,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        head_base64=base64.b64encode(data[:256]).decode(),
        ts_ms=ts_ms,
    )
