"""A file of the past as a stream of stimuli: messages or records of a log, a JSON object a line, plain or gzip'd.

A line is a usage.v1 message; or a record of a topic with the time of its append, `{"topic": …, "append_ms": …,
"value": …}`; or `{"until_ms": …}`: time passes to here. A record may have a `key`, where that is not its tenant, and in
place of `value` a `base64`, where its bytes are no JSON.
"""

import base64
import binascii
import gzip
import os
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, NamedTuple, cast

import msgspec

from models.rules.policy import Policy, read_policy_json
from models.stimuli import OperatorSeen, RecordRefused, Ticked, UsageSeen
from schemas.codec import dead_letter, decode_operator, decode_usage, undecodable
from schemas.errors import PolicyError, SettingsError, Undecodable
from schemas.usage import CommandAck, UsageMessage
from streams.tools.replay.append_times import append_times, is_plausible


class PolicySeen(NamedTuple):
    """Another policy is in force from here on."""

    policy: Policy
    append_ms: int


class Aside(NamedTuple):
    """A line that changes nothing, and why: for those who wonder what became of it."""

    kind: Literal["policy refused", "policy deletions ignored", "other topics ignored"]
    line: int
    detail: str


Line = UsageSeen | OperatorSeen | RecordRefused | PolicySeen | Ticked | Aside


class _Shape(msgspec.Struct, frozen=True):
    """Enough of a line to say what it is; a usage message has a type."""

    type: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    topic: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    until_ms: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """A record of a topic, as a line of a recorded log."""

    topic: str
    append_ms: int
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    key: str | msgspec.UnsetType | None = msgspec.UNSET
    """Where it is not the tenant of the value; null where the record has none."""
    base64: str | msgspec.UnsetType = msgspec.UNSET
    """The value's bytes, where they are no JSON."""

    def data(self) -> bytes | None:
        """The record's value as the broker gave it, None for a tombstone. Raises `Undecodable`."""
        if self.base64 is not msgspec.UNSET:
            try:
                return base64.b64decode(self.base64, validate=True)
            except binascii.Error as error:
                raise Undecodable("wrong_value", f"{error} - at `$.base64`") from None
        if self.value is msgspec.UNSET:
            raise Undecodable("missing_field", "a record has a `value`, or its `base64`")
        data = bytes(self.value)
        return None if data == b"null" else data


class Until(msgspec.Struct, frozen=True):
    """Time passes to here."""

    until_ms: int


_shape = msgspec.json.Decoder(_Shape)
_record = msgspec.json.Decoder(Record)
_until = msgspec.json.Decoder(Until)


@dataclass(frozen=True, slots=True)
class Survey:
    """What a first look through a file shows: what can only be judged with the lines after it at hand."""

    append_ms: Mapping[str, "array[int]"]
    """Tenant -> the append time of each of its lines that are bare messages, in their order."""
    answered: frozenset[str]
    """Commands that somebody answers in the file."""
    moved: Mapping[str, int]
    """Tenant -> how many of its lines count when their neighbours were, and not at their own time."""


def survey_log(path: Path, on_bytes: Callable[[int], object] | None = None) -> Survey:
    """Look through a file once. Lines that will be refused count for nothing. Raises `SettingsError`."""
    own_times: dict[str, array[int]] = {}
    answered: set[str] = set()
    for _, line in _lines(path, on_bytes):
        try:
            found = _read(line)
        except Undecodable:
            continue
        match found:
            case Record(topic="usage.v1"):
                if b"command_ack" in line:
                    answered |= _answered(found)
            case Record() | Until():
                pass
            case message:
                own_times.setdefault(message.tenant_id, array("q")).append(message.ts_ms)
                if isinstance(message, CommandAck):
                    answered.add(message.command_id)
    append_ms = {tenant_id: append_times(times) for tenant_id, times in own_times.items()}
    moved = {tenant_id: _differing(times, append_ms[tenant_id]) for tenant_id, times in own_times.items()}
    return Survey(append_ms, frozenset(answered), {tenant_id: count for tenant_id, count in moved.items() if count})


def read_log(
    path: Path,
    on_bytes: Callable[[int], object] | None = None,
    survey: Survey | None = None,
    name: str | None = None,
) -> Iterator[Line]:
    """Every line of the file in order; one that cannot be read is refused with its number from 0 as the offset.

    `on_bytes` is given how many bytes of the file have been read since the last call. `survey` is that of this file;
    without it one is made. `name` is what the file is called in dead letters. Raises `SettingsError`.
    """
    survey = survey_log(path) if survey is None else survey
    places = {tenant_id: iter(times) for tenant_id, times in survey.append_ms.items()}
    latest_ms = 0
    for number, line in _lines(path, on_bytes):
        append_ms, data = latest_ms, line
        try:
            found = _read(line)
            match found:
                case Record():
                    append_ms = _plausible(found.append_ms, "append_ms")
                    data = found.data() or b""
                    seen = _seen(found, number)
                case Until(until_ms=until_ms):
                    append_ms = _plausible(until_ms, "until_ms")
                    seen = Ticked(until_ms)
                case message:
                    append_ms = next(places[message.tenant_id])
                    seen = UsageSeen(message, append_ms)
        except Undecodable as fault:
            yield RecordRefused(dead_letter(name or str(path), 0, number, None, data, fault, append_ms))
            continue
        latest_ms = max(latest_ms, append_ms)
        yield seen


def _read(line: bytes) -> UsageMessage | Record | Until:
    """What a line is. Raises `Undecodable`."""
    if b'"topic"' in line or b'"until_ms"' in line:
        try:
            shape = _shape.decode(line)
            if shape.type is msgspec.UNSET and shape.topic is not msgspec.UNSET:
                return _record.decode(line)
            if shape.type is msgspec.UNSET and shape.until_ms is not msgspec.UNSET:
                return _until.decode(line)
        except Exception as error:
            raise undecodable(error) from None
    return decode_usage(line)


def _differing(times_ms: "array[int]", append_ms: "array[int]") -> int:
    return sum(own != appended for own, appended in zip(times_ms, append_ms, strict=True))


def _plausible(ms: int, name: str) -> int:
    if not is_plausible(ms):
        raise Undecodable("bad_time", f"write milliseconds since 1970, such as 1794819600000 - at `$.{name}`")
    return ms


def _seen(record: Record, number: int) -> Line:
    """A record as a stimulus. Raises `Undecodable`."""
    data = record.data()
    match record.topic:
        case "usage.v1":
            message = decode_usage(data)
            if isinstance(record.key, str) and record.key != message.tenant_id:
                raise Undecodable("wrong_tenant", "the record's key is not its tenant_id")
            return UsageSeen(message, record.append_ms)
        case "operator.v1":
            return OperatorSeen(decode_operator(data), record.append_ms)
        case "policy.v1":
            return _policy(data, record.append_ms, number)
        case topic:
            return Aside("other topics ignored", number, topic)


def _policy(data: bytes | None, append_ms: int, number: int) -> PolicySeen | Aside:
    """A record of policy.v1; a faulty policy changes nothing, and the one before it stays."""
    if data is None:
        return Aside("policy deletions ignored", number, "a policy is replaced, never deleted")
    try:
        return PolicySeen(read_policy_json(data), append_ms)
    except PolicyError as error:
        return Aside("policy refused", number, "; ".join(error.faults))


def _answered(record: Record) -> set[str]:
    try:
        message = decode_usage(record.data())
    except Undecodable:
        return set()
    return {message.command_id} if isinstance(message, CommandAck) else set()


def _lines(path: Path, on_bytes: Callable[[int], object] | None) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that hold anything, each with its number from 0."""
    with open_log(path) as (lines, raw):
        read = 0
        for number, line in enumerate(lines):
            if on_bytes is not None and number % 4096 == 0:
                position = raw.tell()
                on_bytes(position - read)
                read = position
            if line.strip():
                yield number, line.rstrip(b"\r\n")


class open_log:  # noqa: N801  # used like the built-in open
    """The lines of a file and the file below them, whose position shows the progress."""

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.is_file():
            raise SettingsError(f"{path} is no file: it is read twice, so write what it gives to a file first")
        try:
            self._raw = path.open("rb")
        except OSError as error:
            raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
        zipped = self._raw.read(2) == b"\x1f\x8b"
        self._raw.seek(0, os.SEEK_SET)
        self._lines = cast("IO[bytes]", gzip.GzipFile(fileobj=self._raw)) if zipped else self._raw

    def __enter__(self) -> tuple[Iterator[bytes], IO[bytes]]:
        return self._read(), self._raw

    def _read(self) -> Iterator[bytes]:
        try:
            yield from self._lines
        except (OSError, EOFError) as error:
            raise SettingsError(f"{self._raw.name} is damaged: {error}") from None

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._raw.close()
