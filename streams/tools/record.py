"""A recorded log out of the topics: an incident to replay, or a case for a test."""

import base64
import gzip
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

import msgspec

from schemas.codec import UNREADABLE, decode_operator, decode_usage, encode
from schemas.errors import PolicyError, SettingsError, Undecodable
from streams.kafka.order_reader import OrderReader
from streams.kafka.partitioner import origin_of
from streams.kafka.time_range import records_between
from streams.kafka.whole_topic import committed_records
from streams.process.policies import read_published
from streams.settings import Settings
from streams.tools.event_log import Record, Until

TOPICS = ("policy.v1", "operator.v1", "usage.v1")
"""At the same moment, what is ordered comes before what happens."""


@dataclass(frozen=True, slots=True)
class Range:
    """Whose records of which stretch of time: from `since_ms` to before `until_ms`, by the time of the append."""

    tenant_id: str | None
    since_ms: int
    until_ms: int


def run_record(settings: Settings, span: Range, out: Path) -> int:
    """Write the recorded log to `out`, gzip'd by its suffix, whole or not at all. Raises `SpendfuseError`."""
    counts = write_record(settings, span, out)
    records = ", ".join(f"{counts[name]:,} of {name}" for name in sorted(TOPICS, reverse=True))
    print(f"{out}: {records}")
    for line in refusals(settings, counts):
        print(line)
    return 0


def refusals(settings: Settings, counts: Counter[str]) -> list[str]:
    """What people must know of messages that are not in the log."""
    lines: list[str] = []
    if counts["refused"]:
        unknown = not settings.operator_public_keys
        hint = "; SPENDFUSE_OPERATOR_PUBLIC_KEY is not set, so that none could be checked" if unknown else ""
        lines.append(f"{counts['refused']:,} operators' messages left out: not signed by an operator's key{hint}")
    if counts["faulty policies"]:
        rules = "the one before it rules, as it did"
        if counts["no policy before"]:
            rules = "no other is left, so that nobody knows which one ruled; say which with --policy"
        lines.append(f"the newest policy from before this time is not valid: {rules}")
    return lines


def write_record(settings: Settings, span: Range, out: Path) -> Counter[str]:
    """Write the recorded log to a file. Returns how many records of each topic it holds, and how many were `refused`;
    how many `faulty policies` are newer than the one in force before the range, and if there is `no policy before`.

    What the runs of the range did before it is not in it: a replay begins with nothing spent.
    """
    counts: Counter[str] = Counter()
    with whole_file(out) as lines:
        for record in _records(settings, span, counts):
            lines.write(encode(record) + b"\n")
        lines.write(encode(Until(span.until_ms)) + b"\n")
    return counts


def _records(settings: Settings, span: Range, counts: Counter[str]) -> Iterator[Record]:
    in_force, counts["faulty policies"] = _policy_before(settings, span.since_ms)
    if in_force is not None:
        counts["policy.v1"] += 1
        yield in_force
    counts["no policy before"] = in_force is None
    names = {settings.topic(name): name for name in TOPICS}
    orders = OrderReader.of(settings)
    for message in records_between(settings, TOPICS, span.since_ms, span.until_ms, progress=True):
        if origin_of(message.headers()) is not None:
            continue  # a copy, written where it belongs, of a record that is in the log where it was written first
        name = names[message.topic()]
        chosen: Record | Literal["refused"] | None
        match name:
            case "usage.v1":
                chosen = _usage(message, span.tenant_id)
            case "operator.v1":
                chosen = _order(orders, message, span.tenant_id)
            case _:
                chosen = _policy(settings, message)
        if isinstance(chosen, Record):
            counts[name] += 1
            yield chosen
        elif chosen == "refused":
            counts["refused"] += 1


def _policy_before(settings: Settings, since_ms: int) -> tuple[Record | None, int]:
    """The policy in force when the range begins, as far as the topic still holds it; how many were refused after it."""
    found: Record | None = None
    refused = 0
    for message in committed_records(settings, "policy.v1"):
        if message.timestamp()[1] < since_ms and (record := _policy(settings, message)) is not None:
            try:
                read_published(message.value())
            except PolicyError:
                refused += 1
                continue
            found, refused = record, 0
    return found, refused


def _policy(settings: Settings, message: Any) -> Record | None:
    if message.key() != settings.policy_name.encode():
        return None
    return _record("policy.v1", message)


def _usage(message: Any, tenant_id: str | None) -> Record | None:
    key: bytes | None = message.key()
    try:
        decoded = decode_usage(message.value()).tenant_id
    except Undecodable:
        ours = tenant_id is None or (key is not None and key == tenant_id.encode())
        return _record("usage.v1", message) if ours else None
    if key == decoded.encode():
        return _record("usage.v1", message) if tenant_id in (None, decoded) else None
    named = decoded if key is None else key.decode("utf-8", "replace")
    if tenant_id not in (None, named):
        return None
    return _record("usage.v1", message, key=None if key is None else named)


def _order(orders: OrderReader, message: Any, tenant_id: str | None) -> Record | Literal["refused"] | None:
    try:
        decoded = decode_operator(message.value()).tenant_id
    except Undecodable:
        return "refused" if tenant_id is None or message.key() == tenant_id.encode() else None
    if tenant_id not in (None, decoded):
        return None
    try:
        orders.read(message.value(), message.headers(), message.timestamp()[1])
    except Undecodable:
        return "refused"
    return _record("operator.v1", message)


def _record(topic: str, message: Any, key: str | msgspec.UnsetType | None = msgspec.UNSET) -> Record:
    value: bytes | None = message.value()
    append_ms: int = message.timestamp()[1]
    if value is None:
        return Record(topic, append_ms, msgspec.Raw(b"null"), key)
    if _is_a_line(value):
        return Record(topic, append_ms, msgspec.Raw(value), key)
    return Record(topic, append_ms, key=key, base64=base64.b64encode(value).decode())


def _is_a_line(value: bytes) -> bool:
    """Whether these bytes can stand in a line of JSON as they are."""
    if b"\n" in value or b"\r" in value or value.strip() == b"null":
        return False
    try:
        value.decode()
        msgspec.json.decode(value)
    except UNREADABLE:
        return False
    return True


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name once it is complete. Raises `SettingsError` where it cannot be written."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as raw:
            if path.suffix == ".gz":
                with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as zipped:
                    yield cast("IO[bytes]", zipped)
            else:
                yield raw
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
