"""Integers in rows, each list at the smallest width that holds it."""

import struct
from collections import deque
from collections.abc import Sequence
from typing import Final

VERSION: Final = 1
"""The first byte of a packed row; rows of another version are refused."""


def check_version(row: bytes) -> None:
    """Refuse a row that this code did not write.

    Raises:
        ValueError: the row is empty or of another version.
    """
    if not row or row[0] != VERSION:
        raise ValueError(f"a row of version {row[0] if row else 'none'}, and this reads version {VERSION}")


def pack_integers(values: Sequence[int] | deque[int]) -> bytes:
    """Non-negative integers at the smallest width that holds them all; the width comes first."""
    largest = max(values, default=0)
    code = next(code for code, bits in (("B", 8), ("H", 16), ("I", 32), ("Q", 64)) if largest < 1 << bits)
    return code.encode() + struct.pack(f"<{len(values)}{code}", *values)


def unpack_integers(row: bytes, place: int, count: int) -> tuple[tuple[int, ...], int]:
    """The integers that `pack_integers` wrote at `place`, and the place behind them.

    Raises:
        KeyError: there is no width at `place`.
        struct.error: the row is too short.
    """
    code = {b"B": "B", b"H": "H", b"I": "I", b"Q": "Q"}[row[place : place + 1]]
    layout = f"<{count}{code}"
    return struct.unpack_from(layout, row, place + 1), place + 1 + struct.calcsize(layout)
