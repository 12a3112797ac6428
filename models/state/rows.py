"""State as rows: every piece of state knows its key and its bytes, so that a changelog can hold it.

A row's value is a header (when it is next due, its tenant's clock, and what it is doing) and its fields as msgpack. The
header can be read without the rest, so that a restore keeps rows as bytes and decodes each at its first touch.
"""

import struct
from typing import Any, ClassVar, Final

import msgspec
import xxhash

HEADER: Final = struct.Struct("<qqB")
"""due_ms, clock_ms: little-endian 64-bit integers; then the activity, one of those below."""

PLAIN, LIVE, ASLEEP = 0, 1, 2
"""Activities: nothing to say, a live run, a unit that sleeps until a message names it."""

ASLEEP_HEADER: Final = HEADER.pack(0, 0, ASLEEP)
"""What the row of every sleeping unit begins with."""

MOST_ROW_BYTES: Final = 640 * 1024
"""No row is larger, key included, whatever one tenant sends: each part of a row is bounded where it comes in."""

MAX_INTEGER: Final = (1 << 63) - 1
"""The most that a row can hold, and that others can read in a message."""

SCHEMA: Final = 6
"""Version of every row's layout. State written with another one is refused."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_encode_key = msgspec.json.Encoder().encode
_decode_key = msgspec.json.Decoder(tuple[str, ...]).decode


class Row:
    """A piece of state that is written when it has changed."""

    __slots__ = ("deleted", "dirty", "row_hash")
    kind: ClassVar[str]

    def __init__(self) -> None:
        self.dirty = False
        self.deleted = False
        self.row_hash = 0

    def key_parts(self) -> tuple[str, ...]:
        """What tells this row from its likes: the tenant first."""
        raise NotImplementedError

    def header(self) -> tuple[int, int, int]:
        """When it is next due, 0 for never; its tenant's clock, 0 where the tenant's own row holds it; activity."""
        return 0, 0, PLAIN

    def fields(self) -> tuple[Any, ...]:
        """The state, in the order in which the row's class reads it back."""
        raise NotImplementedError


def row_key_of(*parts: str) -> bytes:
    """A changelog key: the row's kind and its own parts as a JSON array, so that no name can pretend to be two."""
    return _encode_key(parts)


def row_key(row: Row) -> bytes:
    """The changelog key of a row."""
    return _encode_key((row.kind, *row.key_parts()))


def row_value(row: Row) -> bytes:
    """The changelog value of a row."""
    return HEADER.pack(*row.header()) + _encode(row.fields())


def read_key(key: bytes) -> tuple[str, ...]:
    """The parts of a changelog key: the row's kind, then its own parts."""
    return _decode_key(key)


def read_header(value: bytes) -> tuple[int, int, int]:
    """`(due_ms, clock_ms, activity)` of a row's value."""
    due_ms, clock_ms, activity = HEADER.unpack_from(value)
    return due_ms, clock_ms, activity


def read_fields(value: bytes) -> tuple[Any, ...]:
    """The fields of a row's value."""
    return tuple(_decode(memoryview(value)[HEADER.size :]))


def row_digest(key: bytes, value: bytes) -> int:
    """A row's share of the partition's digest. The digest is the sum of all shares, so order does not matter."""
    return xxhash.xxh3_64_intdigest(value, xxhash.xxh3_64_intdigest(key))  # by name the seed costs a third more
