"""Integers in rows, each list at the smallest width that holds it."""

import struct
import sys
from array import array
from collections.abc import Sequence
from typing import Final

import numpy as np

VERSION: Final = 1
"""The first byte of a packed row; rows of another version are refused."""

_LONG: Final = 32
_WIDTHS: Final = {"B": "u1", "H": "u2", "I": "u4", "Q": "u8"}
_CODES: Final = {code: code.encode() for code in _WIDTHS}
_LEAST: Final = {"B": 0, "H": 1 << 8, "I": 1 << 16, "Q": 1 << 32}
"""Width -> the smallest integer that needs it."""


def check_version(row: bytes) -> None:
    """Refuse a row that this code did not write.

    Raises:
        ValueError: the row is empty or of another version.
    """
    if not row or row[0] != VERSION:
        raise ValueError(f"a row of version {row[0] if row else 'none'}, and this reads version {VERSION}")


def pack_integers(values: Sequence[int]) -> bytes:
    """Non-negative integers at the smallest width that holds them all; the width comes first. Long arrays are packed
    as a whole, ten times as fast as their integers one by one.
    """
    if isinstance(values, array) and len(values) >= _LONG:
        numbers = np.frombuffer(values, dtype=values.typecode)
        code = _code_of(int(numbers.max()))
        return _CODES[code] + numbers.astype(f"<{_WIDTHS[code]}").tobytes()
    code = _code_of(max(values, default=0))
    return _CODES[code] + little_endian(array(code, values))


def little_endian(values: "array[int]") -> bytes:
    """The bytes of an array, the same on every machine."""
    if sys.byteorder == "little":
        return values.tobytes()
    turned = values[:]
    turned.byteswap()
    return turned.tobytes()


class Integers:
    """Non-negative integers, the oldest first, kept as they are packed: a row of them costs one copy, and the processor
    has one stretch of memory to read, not one for each.
    """

    __slots__ = ("values",)

    def __init__(self, values: Sequence[int] = ()) -> None:
        self.values: array[int] = array(_code_of(max(values, default=0)), values)
        """Not to be changed."""

    def __len__(self) -> int:
        return len(self.values)

    def append(self, value: int) -> None:
        """Add the newest."""
        try:
            self.values.append(value)
        except OverflowError:
            self.values = array(_code_of(value), self.values)
            self.values.append(value)

    def pop(self) -> int:
        """Take the oldest."""
        oldest = self.values.pop(0)
        least = _LEAST[self.values.typecode]
        # The others may all be smaller; nearly always the first that is looked at is not.
        if oldest >= least > 0 and not any(value >= least for value in self.values):
            self.values = array(_code_of(max(self.values, default=0)), self.values)
        return oldest

    def packed(self) -> bytes:
        """As `pack_integers` has it."""
        return _CODES[self.values.typecode] + little_endian(self.values)


def _code_of(largest: int) -> str:
    return "B" if largest < 1 << 8 else "H" if largest < 1 << 16 else "I" if largest < 1 << 32 else "Q"


def unpack_integers(row: bytes, place: int, count: int) -> tuple[tuple[int, ...], int]:
    """The integers that `pack_integers` wrote at `place`, and the place behind them.

    Raises:
        KeyError: there is no width at `place`.
        struct.error: the row is too short.
    """
    code = {b"B": "B", b"H": "H", b"I": "I", b"Q": "Q"}[row[place : place + 1]]
    layout = f"<{count}{code}"
    return struct.unpack_from(layout, row, place + 1), place + 1 + struct.calcsize(layout)
