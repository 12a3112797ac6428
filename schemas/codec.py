"""The one edge where bytes are checked. Past it, values can be trusted.

Unknown fields are ignored, so that newer producers do not break older readers; wrong types are refused, so that a
string "5" or a `true` never counts as money.
"""

import base64
import hashlib
import re
import sys
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from schemas.alert import Alert
from schemas.control import Command, KeyCheck
from schemas.dead_letter import DeadLetter, Reason
from schemas.errors import Undecodable
from schemas.internal.spend import SpendDelta
from schemas.operator import OperatorMessage
from schemas.rollup import Rollup
from schemas.run import RunRecord
from schemas.usage import END_MS, FIRST_MS, FOREIGN_NAMES, NAME_HINTS, LlmCall, ToolCall, UsageMessage

MAX_MESSAGE_BYTES = 64 * 1024
MAX_ALERT_BYTES = 512 * 1024
"""Half of what a record may have: alerting keeps an alert in its log with what came of it, and must be able to."""
MAX_DEPTH = 512
"""Objects and arrays within each other, far more than any message of ours has.

A limit of our own, because the decoder's depends on how deep the calling stack already is: a live run and a replay
would refuse different messages. No message of fewer bytes can reach it, so that ordinary ones are not looked through.
"""
DETAIL_CHARACTERS = 200
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a decoder raises for bytes that it cannot read: bad UTF-8 and deep nesting have unrelated classes of their own.
"""

_usage: Final = msgspec.json.Decoder(UsageMessage)
_operator: Final = msgspec.json.Decoder(OperatorMessage)
_alert: Final = msgspec.json.Decoder(Alert)
_command: Final = msgspec.json.Decoder(Command)
_key_check: Final = msgspec.json.Decoder(KeyCheck)
_dead_letter: Final = msgspec.json.Decoder(DeadLetter)
_spend: Final = msgspec.json.Decoder(SpendDelta)
_rollup: Final = msgspec.json.Decoder(Rollup)
_run: Final = msgspec.json.Decoder(RunRecord)
_encoder: Final = msgspec.json.Encoder()
_string: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
"""A string, ended or not: one that had to end would make a hostile message cost its length squared."""
_missing: Final = re.compile(r"Object missing required field `(\w+)`")
_quoted: Final = re.compile(r" '.*' - at ", re.DOTALL)
_bad_word: Final = re.compile(r"Invalid (?:enum )?value - at `\$\.(\w+)`")
_bad_time: Final = re.compile(r"Expected `int` ([<>])=? -?\d+ - at `\$\.ts_ms`")
_UNITS: Final = {
    ">": f"ts_ms is below {FIRST_MS}: it counts seconds, most likely; send milliseconds since 1970 (times 1000)",
    "<": f"ts_ms is {END_MS} or more, past the year 2199: it counts microseconds or nanoseconds, most likely; "
    "send milliseconds since 1970",
}


class _ForeignNames:
    """Finds what a call says of its cost or its tokens under another system's name: it would count as nothing.

    A second decoder that knows only those names costs a third of the first, and a search in the bytes more than that.
    """

    def __init__(self, *ours: str) -> None:
        self._ours = {theirs: name for name in ours for theirs in FOREIGN_NAMES[name]}
        fields = [(theirs, msgspec.Raw, msgspec.Raw()) for theirs in self._ours]
        found = msgspec.defstruct("ForeignNames", fields, frozen=True, gc=False)
        self._nothing = found()
        self._decode = msgspec.json.Decoder(found).decode

    def check(self, message: UsageMessage, data: bytes | None) -> None:
        """Refuse a message that has one of our fields by another name alone. Raises `Undecodable`."""
        found = self._decode(data or b"")
        if found == self._nothing:
            return
        for theirs, ours in self._ours.items():
            if bytes(getattr(found, theirs)) not in _SAYS_NOTHING and not getattr(message, ours):
                raise Undecodable("foreign_name", _right_name(theirs, ours))


_FOREIGN: Final[dict[type[UsageMessage], _ForeignNames]] = {
    LlmCall: _ForeignNames("cost_nanousd", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"),
    ToolCall: _ForeignNames("cost_nanousd"),
}
_SAYS_NOTHING: Final = (b"", b"null", b"0", b"0.0", b'""')
_EMPTY: Final = b'""'
_NULL: Final = b"null"
_MESSAGES: Final[tuple[type[UsageMessage], ...]] = _usage.type.__args__


def _texts(message: type[UsageMessage]) -> Iterator[tuple[msgspec.structs.FieldInfo, tuple[str, ...]]]:
    """The fields of a message that hold text, with the words that one takes where it takes no others."""
    for field in msgspec.structs.fields(message):
        info = msgspec.inspect.type_info(field.type)
        for kind in getattr(info, "types", (info,)):
            match kind:
                case msgspec.inspect.LiteralType(values=words):
                    yield field, tuple(str(word) for word in words)
                case msgspec.inspect.StrType():
                    yield field, ()


def _unset() -> dict[str, tuple[bytes, ...]]:
    """Field that a message may leave out -> what many languages write there when nobody has set it.

    That is `null`, and an empty text in place of a text.
    """
    fields = (field for message in _MESSAGES for field in msgspec.structs.fields(message) if not field.required)
    texts = {field.name for message in _MESSAGES for field, _ in _texts(message)}
    return {field.name: (_NULL, _EMPTY) if field.name in texts else (_NULL,) for field in fields}


def _closed_words() -> dict[str, dict[str, str]]:
    """Type of a message -> field -> the only words that it takes, as a sentence says them."""
    kinds = {kind: message for message in _MESSAGES if (kind := message.__struct_config__.tag)}
    words = {
        str(kind): {field.name: ", ".join(known) for field, known in _texts(message) if known}
        for kind, message in kinds.items()
    }
    return words | {"": {"type": ", ".join(words)}}


_UNSET: Final = _unset()
_CLOSED_WORDS: Final = _closed_words()
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def decode_usage(data: bytes | None) -> UsageMessage:
    """Read one usage.v1 value. Raises `Undecodable` with a reason from the closed list."""
    try:
        message: UsageMessage = _decode(_usage, data, MAX_MESSAGE_BYTES)
    except Undecodable as fault:
        filled = _without_unset(data or b"") if fault.reason == "wrong_value" else None
        if filled is None:
            raise _explained(fault, data or b"") from None
        return decode_usage(filled)
    foreign = _FOREIGN.get(type(message))
    if foreign is not None and message.cost_nanousd is None:  # type: ignore[union-attr]
        foreign.check(message, data)
    return message


def _without_unset(data: bytes) -> bytes | None:
    """The message without the fields that nobody has set and that may be left out, None if it has none.

    A message is looked at again only where it was refused: looking for `""` in each costs a third of reading it.
    """
    if _EMPTY not in data and _NULL not in data:
        return None
    try:
        members = _members.decode(data)
    except UNREADABLE:
        return None  # what is behind the refused value is no better
    filled = {name: raw for name, raw in members.items() if bytes(raw) not in _UNSET.get(name, ())}
    tags = filled.get("tags")
    if tags is not None and bytes(tags).startswith(b"{"):
        said = {name: raw for name, raw in _members.decode(tags).items() if bytes(raw) not in (_NULL, _EMPTY)}
        filled["tags"] = msgspec.Raw(encode(said))
    without = encode(filled)
    return without if len(without) < len(encode(members)) else None


def _explained(fault: Undecodable, data: bytes) -> Undecodable:
    """The fault, with what to write instead where that is known: the field's own name, or the words that it takes."""
    missing = _missing.match(fault.detail) if fault.reason == "missing_field" else None
    word = _bad_word.fullmatch(fault.detail)
    if missing is None and word is None:
        return fault
    try:
        members = msgspec.json.decode(data)
    except UNREADABLE:
        return fault  # what is behind the object's end is no better
    hint = None
    if missing is not None:
        theirs = next((name for name in FOREIGN_NAMES.get(missing[1], ()) if name in members), None)
        hint = None if theirs is None else _right_name(theirs, missing[1])
    elif word is not None:
        kind = "" if word[1] == "type" else str(members.get("type"))
        known = _CLOSED_WORDS.get(kind, {}).get(word[1])
        hint = known and f"it is one of {known}"
    return fault if not hint else Undecodable(fault.reason, f"{fault.detail}: {hint}")


def _right_name(theirs: str, ours: str) -> str:
    return f"`{theirs}` is called `{ours}` here" + (f" ({NAME_HINTS[ours]})" if ours in NAME_HINTS else "")


def decode_operator(data: bytes | None) -> OperatorMessage:
    """Read one operator.v1 value. Raises `Undecodable`."""
    message: OperatorMessage = _decode(_operator, data, MAX_MESSAGE_BYTES)
    return message


def decode_alert(data: bytes | None) -> Alert:
    """Read one alerts.v1 value. Raises `Undecodable`."""
    alert: Alert = _decode(_alert, data, MAX_ALERT_BYTES)
    if not FIRST_MS <= alert.ts_ms < END_MS:
        raise Undecodable("bad_time", "ts_ms is no time in milliseconds since 1970")
    return alert


def decode_command(data: bytes | None) -> Command:
    """Read one control.v1 value. Raises `Undecodable`, with `empty` for a tombstone."""
    command: Command = _decode(_command, data)
    return command


def decode_key_check(data: bytes | None) -> KeyCheck:
    """Read one value of control.v1 whose record key is that of a key check. Raises `Undecodable`."""
    check: KeyCheck = _decode(_key_check, data)
    return check


def decode_rollup(data: bytes | None) -> Rollup:
    """Read one rollups.v1 value. Raises `Undecodable`."""
    rollup: Rollup = _decode(_rollup, data)
    return rollup


def decode_run(data: bytes | None) -> RunRecord:
    """Read one runs.v1 value. Raises `Undecodable`."""
    run: RunRecord = _decode(_run, data)
    return run


def decode_spend(data: bytes | None) -> SpendDelta:
    """Read one spend.v1 value. Raises `Undecodable`."""
    delta: SpendDelta = _decode(_spend, data)
    return delta


def decode_dead_letter(data: bytes | None) -> DeadLetter:
    """Read one usage.dlq.v1 value. Raises `Undecodable`."""
    letter: DeadLetter = _decode(_dead_letter, data)
    return letter


def encode(value: Any) -> bytes:
    """Write any of our messages. The same value gives the same bytes."""
    return _encoder.encode(value)


def undecodable(error: Exception) -> Undecodable:
    """Name the fault, without quoting the value that has it: what people wrote stays out of logs and alerts.

    Any error but those of `UNREADABLE` is raised.
    """
    text = str(error)
    if isinstance(error, msgspec.ValidationError) and (bad_time := _bad_time.fullmatch(text)):
        return Undecodable("bad_time", _UNITS[bad_time[1]])
    return Undecodable(_reason(error, text), _quoted.sub(" - at ", text)[:DETAIL_CHARACTERS])


def _reason(error: Exception, text: str) -> Reason:
    match error:
        case UnicodeDecodeError():
            return "not_utf8"
        case RecursionError():
            return "too_deep"
        case msgspec.ValidationError() if text.startswith("Object missing required field"):
            return "missing_field"
        case msgspec.ValidationError() if text.endswith(" - at `$.type`"):
            return "unknown_type"
        case msgspec.ValidationError():
            return "wrong_value"
        case msgspec.DecodeError():
            return "not_json"
        case _:
            raise error


def _decode(decoder: msgspec.json.Decoder[Any], data: bytes | None, max_bytes: int = sys.maxsize) -> Any:
    if not data:
        raise Undecodable("empty", "the record has no value")
    if len(data) > max_bytes:
        raise Undecodable("too_large", f"{len(data)} bytes; at most {max_bytes} are read")
    if len(data) > MAX_DEPTH and data.count(b"{") + data.count(b"[") > MAX_DEPTH:
        _check_depth(data)
    try:
        if not data.isascii():
            data.decode()  # the decoder skips unknown fields without looking at their bytes
        return decoder.decode(data)
    except Exception as error:
        raise undecodable(error) from None


def _check_depth(data: bytes) -> None:
    depth = 0
    for byte in _string.sub(b"", data):
        if byte in b"{[":
            depth += 1
            if depth > MAX_DEPTH:
                raise Undecodable("too_deep", f"nested deeper than {MAX_DEPTH}")
        elif byte in b"}]":
            depth -= 1


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
