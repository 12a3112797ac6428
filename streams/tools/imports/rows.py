"""Files of rows, whichever way they are written: one JSON object a line, an array of them, or CSV with a header."""

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Final, NamedTuple

import msgspec

from schemas.codec import UNREADABLE
from schemas.errors import Undecodable
from streams.tools.imports.source import Event, Line, Read, Unread

Row = Mapping[str, Any]
_decode: Final = msgspec.json.Decoder().decode


class _Numbered(NamedTuple):
    number: int
    row: Any


def rows_as(usage_of: Callable[[Row], Event | None]) -> Read:
    """Reads files of rows. `usage_of` raises `Undecodable`, and gives None for a row about nothing that was used."""

    def read(lines: Iterable[Line]) -> Iterator[Event | Unread]:
        for found in _rows(lines):
            if isinstance(found, Unread):
                yield found
                continue
            try:
                event = usage_of(found.row) if isinstance(found.row, Mapping) else None
            except Undecodable as fault:
                yield Unread(found.number, fault.detail)
                continue
            if event is not None:
                yield event

    return read


def _rows(lines: Iterable[Line]) -> Iterator[_Numbered | Unread]:
    filled = (line for line in lines if line.data.strip())
    first = next(filled, None)
    if first is None:
        return
    everything = chain([first], filled)
    match first.data.lstrip(b"\xef\xbb\xbf \t")[:1]:
        case b"{":
            yield from _objects(everything)
        case b"[":
            yield from _array(everything)
        case _:
            yield from _table(everything)


def _objects(lines: Iterable[Line]) -> Iterator[_Numbered | Unread]:
    for line in lines:
        try:
            yield _Numbered(line.number, _decode(line.data))
        except UNREADABLE:
            yield Unread(line.number, "it is no JSON")


def _array(lines: Iterable[Line]) -> Iterator[_Numbered | Unread]:
    try:
        rows = _decode(b"\n".join(line.data for line in lines))
    except UNREADABLE:
        yield Unread(1, "the file begins as a JSON array and is none")
        return
    yield from (_Numbered(place, row) for place, row in enumerate(rows, 1))


def _table(lines: Iterable[Line]) -> Iterator[_Numbered | Unread]:
    reader = csv.DictReader(line.data.decode("utf-8-sig", "replace") + "\n" for line in lines)
    try:
        for row in reader:
            yield _Numbered(reader.line_num, {name: value for name, value in row.items() if name and value})
    except csv.Error:
        yield Unread(reader.line_num + 1, "it is no CSV")


def unpacked(value: object) -> Any:
    """What a column's text says as JSON; anything else as it is."""
    if not isinstance(value, str) or not value.startswith(("{", "[")):
        return value
    try:
        return _decode(value)
    except (msgspec.DecodeError, RecursionError):
        return None


def number(value: object) -> float:
    """A column's number; 0 where it is empty. Raises `Undecodable` for anything else: half a row counts nowhere."""
    if value is None or value == "":
        return 0.0
    try:
        found = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise Undecodable("wrong_value", "a column of numbers holds something else")
    return found
