"""The changelog rows of sleeping runs, sessions and run trees, packed: about 20 bytes each beside the id and the row.

The newest units stand in a dict. From there they are sealed, a few dozen to a few thousand at a time, into the stretch
of their day: one block of bytes, a sorted index of 32-bit hashes and places in the block, and a bit filter that answers
for most ids that are not there. Whatever shares a hash is told apart by its id. A unit that leaves is marked in the
block; a block that is an eighth dead is written anew.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from heapq import merge
from itertools import combinations
from typing import Final

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

KINDS: Final = ("run", "session", "tree")
"""What can sleep, in the order in which units of the same age are handed out."""

DAY_MS: Final = 86_400_000
FEWEST_RECENT: Final = 32
"""So many units stay in the dict however few there are, else an eighth of the others, at most `MOST_RECENT`."""
MOST_RECENT: Final = 2048
MOST_RECENT_BYTES: Final = 1 << 20
STRETCH_UNITS: Final = 1 << 18
"""A stretch that has taken in as many, or `STRETCH_BYTES`, is full: bounds how long writing it anew takes."""
STRETCH_BYTES: Final = 1 << 28

_Numbers = npt.NDArray[np.uint64]
_NEVER: Final = 1 << 63

# A unit in a block: 8 bytes of header, the id in UTF-8, the row. In the header, from the lowest bit: its kind, counted
# from 1, or 0 when it is gone; milliseconds of its day; bytes of its id; bytes of its row.
_HEADER_BYTES: Final = 8
_MS_AT: Final = 2
_ID_AT: Final = 29
_ROW_AT: Final = 39
_GONE: Final = 0
_KIND_MASK: Final = (1 << _MS_AT) - 1
_MS_MASK: Final = (1 << (_ID_AT - _MS_AT)) - 1
_ID_MASK: Final = (1 << (_ROW_AT - _ID_AT)) - 1
_ROW_MASK: Final = (1 << (64 - _ROW_AT)) - 1

_PREFIXES: Final = {kind: bytes([code]) for code, kind in enumerate(KINDS, 1)}

# An entry of the index: the low 32 bits of the hash, then the unit's place in the block.
_PLACE_MASK: Final = 0xFFFF_FFFF
_HASH_MASK: Final = 0xFFFF_FFFF

# The filter: a byte is chosen by the upper bits of the hash's low 32, three bits of it by the lowest six.
_SMALLEST_FILTER: Final = 64
_TRIPLES = [1 << a | 1 << b | 1 << c for a, b, c in combinations(range(8), 3)]
_MASKS: Final = bytes(_TRIPLES + _TRIPLES[: 64 - len(_TRIPLES)])
_MASKS_ARRAY: Final = np.frombuffer(_MASKS, dtype=np.uint8)

_Hash = Callable[[bytes], int]
_Unit = tuple[int, bytes, bytes]
"""last_ms, name, row. A name is the kind's code and the id in UTF-8: names sort as (kind, id) does."""


class _Stretch:
    """Units of one day, in one block. Knows nothing of the dict of recent ones."""

    __slots__ = ("_block", "_filter", "_gone", "_index", "_order", "_shift", "_taken", "day", "live", "min_ms")

    def __init__(self, day: int) -> None:
        self.day = day
        self.live = 0
        self.min_ms = _NEVER
        """No living unit is older."""
        self._taken = 0
        """Units in the block, living and gone."""
        self._block = bytearray()
        self._gone = array("I")
        """Places of the units that left."""
        self._index: list[array[int]] = []
        """Sorted arrays of entries, larger ones first."""
        self._order: array[int] | None = None
        """Places of the living units, oldest last; None until somebody asks for the oldest."""
        self._filter = bytearray()
        self._shift = 0
        self._clear_filter(_SMALLEST_FILTER)

    def is_full(self) -> bool:
        """Whether new units of this day belong into another stretch."""
        return self._taken >= STRETCH_UNITS or len(self._block) >= STRETCH_BYTES

    def add(self, units: list[_Unit], hash_of: _Hash) -> None:
        """Take in units, none of which is here yet."""
        entries = array("Q")
        parts: list[bytes] = []
        place = len(self._block)
        start_ms = self.day * DAY_MS
        for last_ms, name, row in units:
            id_bytes = len(name) - 1
            header = name[0] | (last_ms - start_ms) << _MS_AT | id_bytes << _ID_AT | len(row) << _ROW_AT
            entries.append((hash_of(name) & _HASH_MASK) << 32 | place)
            parts += (header.to_bytes(_HEADER_BYTES, "little"), name[1:], row)
            place += _HEADER_BYTES + id_bytes + len(row)
            self.min_ms = min(self.min_ms, last_ms)
        self._block += b"".join(parts)
        self._order = None
        self.live += len(units)
        self._taken += len(units)
        if self._taken > len(self._filter):
            self._clear_filter(1 << self._taken.bit_length())
            self._mark_all()
        self._add_entries(entries)

    def find(self, name: bytes, digest: int) -> int:
        """The place of a unit, -1 if it is not here. `digest` is the low half of its name's hash."""
        mask = _MASKS[digest & 63]
        if self._filter[digest >> self._shift] & mask != mask:
            return -1
        lowest = digest << 32
        for entries in self._index:
            at = bisect_left(entries, lowest)
            while at < len(entries) and entries[at] >> 32 == digest:
                place = entries[at] & _PLACE_MASK
                if self._is_named(place, name):
                    return place
                at += 1
        return -1

    def row(self, place: int) -> bytes:
        """The row of a unit."""
        header = self._header(place)
        start = place + _HEADER_BYTES + (header >> _ID_AT & _ID_MASK)
        return bytes(self._block[start : start + (header >> _ROW_AT)])

    def unit(self, place: int) -> _Unit:
        """All of a unit."""
        return (*self._age(place), self.row(place))

    def remove(self, place: int) -> None:
        """Let a unit go. Every place that was handed out before is void."""
        self._block[place] &= ~_KIND_MASK & 0xFF
        self._gone.append(place)
        self.live -= 1
        if self.live and len(self._gone) * 8 > self._taken:
            self._write_anew()

    def oldest(self) -> int:
        """The place of the oldest unit, by (last_ms, kind, id)."""
        if self._order is None:
            self._order = self.places()
        while not self._block[self._order[-1]] & _KIND_MASK:
            self._order.pop()
        place = self._order[-1]
        self.min_ms = self._age(place)[0]
        return place

    def age(self) -> tuple[int, bytes]:
        """(last_ms, name) of the oldest unit."""
        return self._age(self.oldest())

    def places(self) -> "array[int]":
        """The places of all living units, the oldest one last."""
        places = np.concatenate([np.frombuffer(entries, dtype=np.uint64) for entries in self._index])
        places = np.sort(places & np.uint64(_PLACE_MASK)).astype(np.int64)
        block = np.frombuffer(self._block, dtype=np.uint8)
        low = np.zeros(len(places), dtype=np.uint32)
        for byte in range(4):
            low |= block[places + byte].astype(np.uint32) << np.uint32(8 * byte)
        alive = low & np.uint32(_KIND_MASK) != _GONE
        places, times = places[alive], (low[alive] >> np.uint32(_MS_AT)) & np.uint32(_MS_MASK)
        by_time = np.argsort(times, kind="stable")
        ordered, times = places[by_time], times[by_time]
        self._sort_ties(ordered, times)
        return array("I", ordered[::-1].astype(np.uint32).tobytes())

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
        unit_id = bytes(self._block[start : start + (header >> _ID_AT & _ID_MASK)])
        last_ms = self.day * DAY_MS + (header >> _MS_AT & _MS_MASK)
        return last_ms, bytes([header & _KIND_MASK]) + unit_id

    def _is_named(self, place: int, name: bytes) -> bool:
        header = self._header(place)
        start = place + _HEADER_BYTES
        end = start + (header >> _ID_AT & _ID_MASK)
        return header & _KIND_MASK == name[0] and self._block[start:end] == name[1:]

    def _add_entries(self, entries: "array[int]") -> None:
        """Index units. Arrays of like size are merged, so there are few and each entry moves seldom."""
        numbers: _Numbers = np.frombuffer(entries, dtype=np.uint64)
        self._mark(numbers)
        while self._index and len(self._index[-1]) < 2 * len(numbers):
            numbers = np.concatenate((np.frombuffer(self._index.pop(), dtype=np.uint64), numbers))
        self._index.append(array("Q", np.sort(numbers).tobytes()))

    def _clear_filter(self, cells: int) -> None:
        self._filter = bytearray(cells)
        self._shift = 33 - cells.bit_length()

    def _mark_all(self) -> None:
        for entries in self._index:
            self._mark(np.frombuffer(entries, dtype=np.uint64))

    def _mark(self, entries: _Numbers) -> None:
        cells = np.frombuffer(self._filter, dtype=np.uint8)
        hashes = entries >> np.uint64(32)
        np.bitwise_or.at(cells, hashes >> np.uint64(self._shift), _MASKS_ARRAY[hashes & np.uint64(63)])

    def _write_anew(self) -> None:
        """Give back the room of the units that left."""
        gone = np.sort(np.frombuffer(self._gone, dtype=np.uint32)).astype(np.uint64)
        sizes: list[int] = []
        kept: list[memoryview] = []
        end = 0
        with memoryview(self._block) as block:
            for place in gone.tolist():
                header = self._header(place)
                kept.append(block[end:place])
                sizes.append(_HEADER_BYTES + (header >> _ID_AT & _ID_MASK) + (header >> _ROW_AT))
                end = place + sizes[-1]
            kept.append(block[end:])
            fresh = bytearray().join(kept)
            for part in kept:
                part.release()
        gaps = np.cumsum(np.array([0, *sizes], dtype=np.uint64))
        self._index = [array("Q", _moved(entries, "Q", gone, gaps)) for entries in self._index]
        self._index = [entries for entries in self._index if entries]
        if self._order is not None:
            self._order = array("I", _moved(self._order, "I", gone, gaps))
        self._block = fresh
        self._taken = self.live
        self._gone = array("I")
        self._clear_filter(len(self._filter))
        self._mark_all()


def _moved(numbers: "array[int]", code: str, gone: _Numbers, gaps: _Numbers) -> bytes:
    """Entries or places without those that are gone, each moved down by what was cut out before it."""
    there: _Numbers = np.frombuffer(numbers, dtype=np.dtype(code)).astype(np.uint64)
    places = there & np.uint64(_PLACE_MASK)
    before = np.searchsorted(gone, places)
    alive = gone[np.minimum(before, len(gone) - 1)] != places
    moved: _Numbers = (there - gaps[before])[alive]
    return moved.astype(np.dtype(code)).tobytes()


class AsleepRows:
    """The rows of one tenant's sleeping units, by kind and id.

    What it answers depends on what it holds alone, never on the order in which that came in. Age is (last_ms, kind,
    id). `hash_of` may be keyed, so that nobody outside can craft ids that all share a hash; it changes no answer.
    """

    __slots__ = ("_changes", "_hash_of", "_recent", "_recent_bytes", "_recent_min_ms", "_sealed", "_stretches")

    def __init__(self, hash_of: _Hash = xxh3_64_intdigest) -> None:
        self._hash_of = hash_of
        self._recent: dict[bytes, tuple[int, bytes]] = {}
        self._recent_bytes = 0
        """At least the bytes of the recent rows."""
        self._recent_min_ms = _NEVER
        """No recent unit is older."""
        self._sealed = 0
        self._stretches: list[_Stretch] = []
        """By day; in a day, the one that takes in new units last."""
        self._changes = 0

    def __len__(self) -> int:
        """How many units are asleep."""
        return len(self._recent) + self._sealed

    def put(self, kind: str, unit_id: str, last_ms: int, row: bytes) -> None:
        """Put a unit to sleep; an older row of the same kind and id is replaced.

        Raises:
            ValueError: the kind is not one of `KINDS`, the id is longer than 1,023 bytes or the row than 32 MiB.
        """
        name = _name(kind, unit_id)
        if len(name) - 1 > _ID_MASK:
            raise ValueError(f"the id of a {kind} has {len(name) - 1} bytes; at most {_ID_MASK} can be put to sleep")
        if len(row) > _ROW_MASK:
            raise ValueError(f"the row of {kind} {unit_id!r} has {len(row)} bytes; at most {_ROW_MASK} can sleep")
        self._remove(name)
        self._recent[name] = (last_ms, row)
        self._recent_bytes += len(row)
        self._recent_min_ms = min(self._recent_min_ms, last_ms)
        self._changes += 1
        most = max(FEWEST_RECENT, min(MOST_RECENT, self._sealed >> 3))
        if len(self._recent) > most or self._recent_bytes > MOST_RECENT_BYTES:
            self._seal()

    def pop(self, kind: str, unit_id: str) -> bytes | None:
        """Wake a unit: its row, which is gone from here, or None if it is not asleep."""
        if not self._recent and not self._stretches:
            return None
        return self._remove(_name(kind, unit_id))

    def peek(self, kind: str, unit_id: str) -> bytes | None:
        """The row of a sleeping unit, or None if it is not asleep."""
        if not self._recent and not self._stretches:
            return None
        name = _name(kind, unit_id)
        recent = self._recent.get(name)
        if recent is not None:
            return recent[1]
        digest = self._hash_of(name) & _HASH_MASK
        for stretch in self._stretches:
            place = stretch.find(name, digest)
            if place >= 0:
                return stretch.row(place)
        return None

    def expired(self, before_ms: int, most: int) -> list[tuple[str, str, bytes]]:
        """Remove and return the oldest units that had no message since `before_ms`, at most `most`, oldest first."""
        return self._take_oldest(before_ms, most)

    def oldest(self, most: int) -> list[tuple[str, str, bytes]]:
        """Remove and return the `most` oldest units, or all if there are fewer, oldest first."""
        return self._take_oldest(_NEVER, most)

    def rows(self, kind: str) -> Iterator[tuple[str, bytes]]:
        """Ids and rows of all units of a kind, sorted by (last_ms, id).

        Raises:
            RuntimeError: a unit came or went meanwhile.
        """
        code = _name(kind, "")[0]
        changes = self._changes
        for _, name, row in self._by_age():
            if name[0] == code:
                yield _id_of(name), row
                if self._changes != changes:
                    raise RuntimeError("units came or went during the iteration over rows; make a list of it first")

    def next_expiry_ms(self) -> int | None:
        """No unit is older than this; it may be earlier than the oldest. None if nothing is asleep."""
        first_ms = self._first_ms()
        return None if first_ms == _NEVER else first_ms

    def _first_ms(self) -> int:
        if not self._recent:
            self._recent_min_ms = _NEVER
        first_ms = self._recent_min_ms
        for stretch in self._oldest_day():
            first_ms = min(first_ms, stretch.min_ms)
        return first_ms

    def _oldest_day(self) -> list[_Stretch]:
        """The stretches of the oldest day that has any."""
        return [stretch for stretch in self._stretches if stretch.day == self._stretches[0].day]

    def _remove(self, name: bytes) -> bytes | None:
        recent = self._recent.pop(name, None)
        if recent is not None:
            self._recent_bytes -= len(recent[1])
            self._changes += 1
            return recent[1]
        if not self._stretches:
            return None
        digest = self._hash_of(name) & _HASH_MASK
        for stretch in self._stretches:
            place = stretch.find(name, digest)
            if place >= 0:
                return self._remove_from(stretch, place)
        return None

    def _remove_from(self, stretch: _Stretch, place: int) -> bytes:
        row = stretch.row(place)
        stretch.remove(place)
        self._sealed -= 1
        self._changes += 1
        if not stretch.live:
            self._stretches.remove(stretch)
        return row

    def _take_oldest(self, before_ms: int, most: int) -> list[tuple[str, str, bytes]]:
        taken: list[tuple[str, str, bytes]] = []
        if self._first_ms() >= before_ms:
            return taken
        recent = [(last_ms, name) for name, (last_ms, _) in self._recent.items() if last_ms < before_ms]
        recent.sort(reverse=True)
        while len(taken) < most:
            stretch = self._oldest_stretch(before_ms)
            if recent and (stretch is None or recent[-1] < stretch.age()):
                name = recent.pop()[1]
                row = self._remove(name)
            elif stretch is not None:
                place = stretch.oldest()
                name = stretch.age()[1]
                row = self._remove_from(stretch, place)
            else:
                break
            assert row is not None
            taken.append((KINDS[name[0] - 1], _id_of(name), row))
        self._recent_min_ms = min((last_ms for last_ms, _ in self._recent.values()), default=_NEVER)
        return taken

    def _oldest_stretch(self, before_ms: int) -> _Stretch | None:
        """The stretch whose oldest unit is the oldest of all, if that is from before `before_ms`."""
        found: _Stretch | None = None
        for stretch in self._oldest_day():
            if stretch.min_ms >= before_ms or stretch.age()[0] >= before_ms:
                continue
            if found is None or stretch.age() < found.age():
                found = stretch
        return found

    def _by_age(self) -> Iterator[_Unit]:
        recent = sorted((last_ms, name, row) for name, (last_ms, row) in self._recent.items())
        return merge(recent, *(_units(stretch) for stretch in self._stretches))

    def _seal(self) -> None:
        """Move the recent units into the stretches of their days."""
        days: dict[int, list[_Unit]] = {}
        for name, (last_ms, row) in self._recent.items():
            days.setdefault(last_ms // DAY_MS, []).append((last_ms, name, row))
        for day, units in days.items():
            self._open_stretch(day).add(units, self._hash_of)
        self._sealed += len(self._recent)
        self._recent = {}
        self._recent_bytes = 0
        self._recent_min_ms = _NEVER

    def _open_stretch(self, day: int) -> _Stretch:
        for stretch in self._stretches:
            if stretch.day == day and not stretch.is_full():
                return stretch
        stretch = _Stretch(day)
        self._stretches.append(stretch)
        self._stretches.sort(key=lambda each: each.day)
        return stretch


def _units(stretch: _Stretch) -> Iterator[_Unit]:
    places = stretch.places()
    while places:
        yield stretch.unit(places.pop())


def _name(kind: str, unit_id: str) -> bytes:
    prefix = _PREFIXES.get(kind)
    if prefix is None:
        raise ValueError(f"a {kind} cannot be put to sleep; kinds are {', '.join(KINDS)}")
    return prefix + unit_id.encode("utf-8", "surrogatepass")


def _id_of(name: bytes) -> str:
    return name[1:].decode("utf-8", "surrogatepass")
