"""The sleeping units of one day, packed: a block of bytes, an index of it, and a filter for what is not in it.

The index is sorted entries of a 32-bit hash and a place in the block; units that share a hash are told apart by their
names. A unit that leaves is marked in the block, and a block that is an eighth dead is written anew.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.state.filters import MASKS_ARRAY
from schemas.duration import DAY_MS

STRETCH_UNITS: Final = 120_000
"""A stretch that has taken in as many, or `STRETCH_BYTES`, is full: bounds how long writing it anew takes. With what
may come on top at once it stays below the next power of two, so that its filter need not be twice as wide."""
STRETCH_BYTES: Final = 1 << 28
FEWEST_GONE: Final = 8
"""A block is written anew when so many units, and an eighth of all it took in, have left it."""
NEVER: Final = 1 << 63

# A unit in a block: 8 bytes of header, its name without the code, its row. In the header, from the lowest bit: the
# code, or 0 when the unit is gone; milliseconds of the day; bytes of the name; bytes of the row.
_HEADER_BYTES: Final = 8
_MS_AT: Final = 2
_NAME_AT: Final = 29
_ROW_AT: Final = 39
_CODE_MASK: Final = (1 << _MS_AT) - 1
_MS_MASK: Final = (1 << (_NAME_AT - _MS_AT)) - 1
_NAME_MASK: Final = (1 << (_ROW_AT - _NAME_AT)) - 1
MOST_CODES: Final = _CODE_MASK
MOST_NAME_BYTES: Final = _NAME_MASK + 1
"""The code included."""
MOST_ROW_BYTES: Final = (1 << (64 - _ROW_AT)) - 1

_Numbers = npt.NDArray[np.uint64]

# An entry of the index: the low 32 bits of the hash, then the unit's place in the block.
_PLACE_MASK: Final = 0xFFFF_FFFF
HASH_MASK: Final = 0xFFFF_FFFF

# The filter: the upper bits of the 32 choose a byte of it.
_SMALLEST_FILTER: Final = 64


class Unit(NamedTuple):
    """A sleeping unit. Units sort by age: by their last message, then by name."""

    last_ms: int
    name: bytes
    """One byte, from 1 to `MOST_CODES`, for its kind; then its id in UTF-8."""
    row: bytes


class Stretch:
    """Units of one day."""

    __slots__ = (
        "_block", "_gone", "_index", "_oldest", "_order", "_taken", "day", "filter", "live", "min_ms", "shift",
    )  # fmt: skip

    def __init__(self, day: int) -> None:
        self.day = day
        self.live = 0
        self.min_ms = NEVER
        """No living unit is older."""
        self._taken = 0
        """Units in the block, living and gone."""
        self._block = bytearray()
        self._gone = array("I")
        """Places of the units that left."""
        self._index: list[array[int]] = []
        """Sorted entries, the largest array first."""
        self._order: array[int] | None = None
        """What `_places` gave when somebody last asked for the oldest; None if units came since."""
        self._oldest: tuple[int, bytes] | None = None
        """Age of the last one in the order, once known."""
        self.filter = bytearray()
        """Cell `digest >> shift` has all bits of `MASKS[digest & 63]` for each unit's hash, and for few others."""
        self.shift = 0
        self._clear_filter(_SMALLEST_FILTER)

    def is_full(self) -> bool:
        """Whether new units of this day belong into another stretch."""
        return self._taken >= STRETCH_UNITS or len(self._block) >= STRETCH_BYTES

    def add(self, units: list[Unit], hash_of: Callable[[bytes], int]) -> None:
        """Take in units of this day, none of which is here yet."""
        entries = array("Q")
        parts: list[bytes] = []
        place = len(self._block)
        start_ms = self.day * DAY_MS
        for last_ms, name, row in units:
            name_bytes = len(name) - 1
            header = name[0] | (last_ms - start_ms) << _MS_AT | name_bytes << _NAME_AT | len(row) << _ROW_AT
            entries.append((hash_of(name) & HASH_MASK) << 32 | place)
            parts += (header.to_bytes(_HEADER_BYTES, "little"), name[1:], row)
            place += _HEADER_BYTES + name_bytes + len(row)
            self.min_ms = min(self.min_ms, last_ms)
        assert place <= _PLACE_MASK
        self._block += b"".join(parts)
        self._order = self._oldest = None
        self.live += len(units)
        self._taken += len(units)
        if self._taken * 2 > len(self.filter):
            self._clear_filter(2 << self._taken.bit_length())
            self._mark_all()
        self._add_entries(entries)

    def find(self, name: bytes, digest: int) -> int:
        """The place of a unit, -1 if it is not here. `digest` is the low half of its name's hash.

        Whoever looks through many stretches asks their filters first.
        """
        for entries in self._index:
            at = bisect_left(entries, digest << 32)
            while at < len(entries) and entries[at] >> 32 == digest:
                place = entries[at] & _PLACE_MASK
                if self._is_named(place, name):
                    return place
                at += 1
        return -1

    def row(self, place: int) -> bytes:
        """The row of a unit."""
        header = self._header(place)
        start = place + _HEADER_BYTES + (header >> _NAME_AT & _NAME_MASK)
        return bytes(self._block[start : start + (header >> _ROW_AT)])

    def remove(self, place: int) -> None:
        """Let a unit go. Every place that was handed out before is void then."""
        self._block[place] &= ~_CODE_MASK & 0xFF
        self._gone.append(place)
        self._oldest = None
        self.live -= 1
        if self.live and len(self._gone) > FEWEST_GONE + self._taken // 8:
            self._write_anew()

    def oldest(self) -> tuple[int, bytes]:
        """`(last_ms, name)` of the oldest unit. There must be one."""
        if self._oldest is None:
            self._oldest = self._age(self.oldest_place())
            self.min_ms = self._oldest[0]
        return self._oldest

    def oldest_place(self) -> int:
        """The place of the oldest unit. There must be one."""
        if self._order is None:
            self._order = self._places()
        while not self._block[self._order[-1]] & _CODE_MASK:
            self._order.pop()
        return self._order[-1]

    def units(self, code: int) -> Iterator[Unit]:
        """The units of a kind, oldest first. The stretch must not change meanwhile."""
        places = self._places()
        while places:
            place = places.pop()
            if self._block[place] & _CODE_MASK == code:
                yield Unit(*self._age(place), self.row(place))

    def _places(self) -> "array[int]":
        """The places of all units, the oldest one last; units that left may be among them."""
        entries: _Numbers = np.concatenate([np.frombuffer(entries, dtype=np.uint64) for entries in self._index])
        places = np.sort(entries & np.uint64(_PLACE_MASK)).astype(np.int64)
        block = np.frombuffer(self._block, dtype=np.uint8)
        headers = np.zeros(len(places), dtype=np.uint32)
        for byte in range(4):
            headers |= block[places + byte].astype(np.uint32) << np.uint32(8 * byte)
        times = headers >> np.uint32(_MS_AT) & np.uint32(_MS_MASK)
        by_time = np.argsort(times, kind="stable")
        places, times = places[by_time], times[by_time]
        self._sort_ties(places, times)
        return array("I", places[::-1].astype(np.uint32).tobytes())

    def _sort_ties(self, places: npt.NDArray[np.int64], times: npt.NDArray[np.uint32]) -> None:
        """Put units of the same millisecond in the order of their names, in place."""
        changes = np.flatnonzero(np.diff(times)) + 1
        starts, ends = np.append(0, changes), np.append(changes, len(times))
        tied = np.flatnonzero(ends - starts > 1)
        for start, end in zip(starts[tied].tolist(), ends[tied].tolist(), strict=True):
            places[start:end] = sorted(places[start:end].tolist(), key=self._age)

    def _header(self, place: int) -> int:
        return int.from_bytes(self._block[place : place + _HEADER_BYTES], "little")

    def _age(self, place: int) -> tuple[int, bytes]:
        header = self._header(place)
        start = place + _HEADER_BYTES
        name = bytes([header & _CODE_MASK]) + self._block[start : start + (header >> _NAME_AT & _NAME_MASK)]
        return self.day * DAY_MS + (header >> _MS_AT & _MS_MASK), name

    def _is_named(self, place: int, name: bytes) -> bool:
        header = self._header(place)
        start = place + _HEADER_BYTES
        end = start + (header >> _NAME_AT & _NAME_MASK)
        return header & _CODE_MASK == name[0] and self._block[start:end] == name[1:]

    def _add_entries(self, entries: "array[int]") -> None:
        """Index units. Arrays of like size are merged, so there are few and each entry moves seldom."""
        numbers: _Numbers = np.frombuffer(entries, dtype=np.uint64)
        self._mark(numbers)
        while self._index and len(self._index[-1]) < 2 * len(numbers):
            numbers = np.concatenate((np.frombuffer(self._index.pop(), dtype=np.uint64), numbers))
        self._index.append(array("Q", np.sort(numbers).tobytes()))

    def _clear_filter(self, cells: int) -> None:
        self.filter = bytearray(cells)
        self.shift = 33 - cells.bit_length()

    def _mark_all(self) -> None:
        for entries in self._index:
            self._mark(np.frombuffer(entries, dtype=np.uint64))

    def _mark(self, entries: _Numbers) -> None:
        cells = np.frombuffer(self.filter, dtype=np.uint8)
        hashes = entries >> np.uint64(32)
        np.bitwise_or.at(cells, hashes >> np.uint64(self.shift), MASKS_ARRAY[hashes & np.uint64(63)])

    def _write_anew(self) -> None:
        """Give back the room of the units that left."""
        gone: _Numbers = np.sort(np.frombuffer(self._gone, dtype=np.uint32)).astype(np.uint64)
        self._block, gaps = self._without(gone.tolist())
        self._index = [array("Q", _moved(entries, gone, gaps)) for entries in self._index]
        self._index = [entries for entries in self._index if entries]
        if self._order is not None:
            self._order = array("I", _moved(self._order, gone, gaps))
        self._taken = self.live
        self._gone = array("I")
        self._clear_filter(len(self.filter))
        self._mark_all()

    def _without(self, gone: list[int]) -> tuple[bytearray, _Numbers]:
        """The block without these units, and by how much what stands after each number of them moves down."""
        gaps = [0]
        kept: list[bytearray] = []  # copies, not views: thousands of views would wake the garbage collector
        end = 0
        for place in gone:
            header = self._header(place)
            size = _HEADER_BYTES + (header >> _NAME_AT & _NAME_MASK) + (header >> _ROW_AT)
            if place > end:
                kept.append(self._block[end:place])
            gaps.append(gaps[-1] + size)
            end = place + size
        kept.append(self._block[end:])
        return bytearray().join(kept), np.array(gaps, dtype=np.uint64)


def _moved(numbers: "array[int]", gone: _Numbers, gaps: _Numbers) -> bytes:
    """Entries or places without those that are gone, each moved down by what was cut out before it."""
    code = np.dtype(numbers.typecode)
    there: _Numbers = np.frombuffer(numbers, dtype=code).astype(np.uint64)
    places = there & np.uint64(_PLACE_MASK)
    before = np.searchsorted(gone, places)
    alive = gone[np.minimum(before, len(gone) - 1)] != places
    moved: _Numbers = (there - gaps[before])[alive]
    return moved.astype(code).tobytes()
