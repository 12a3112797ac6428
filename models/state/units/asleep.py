"""The changelog rows of sleeping runs, sessions and run trees, packed: about 20 bytes each beside the id and the row.

The newest units stand in a dict. From there they are sealed, a few dozen to a few thousand at a time, into the
stretches of their days.
"""

from bisect import insort
from collections.abc import Callable, Iterator
from heapq import merge, nsmallest
from itertools import takewhile
from typing import Final

from xxhash import xxh3_64_intdigest

from models.state.filters import MASKS
from models.state.units.asleep_stretch import HASH_MASK, MOST_NAME_BYTES, MOST_ROW_BYTES, NEVER, Stretch, Unit
from schemas.duration import DAY_MS

KINDS: Final = ("run", "session", "tree")
"""What can sleep, in the order in which units of the same millisecond are handed out."""
FEWEST_RECENT: Final = 32
"""So many units stay in the dict however few there are; else a sixteenth of the others, at most `MOST_RECENT`."""
MOST_RECENT: Final = 2048
MOST_RECENT_BYTES: Final = 1 << 20

_PREFIXES: Final = {kind: bytes([code]) for code, kind in enumerate(KINDS, 1)}


class AsleepRows:
    """The rows of one tenant's sleeping units, by kind and id.

    What it answers depends on what it holds alone, never on the order in which that came in. Age is (last_ms, kind,
    id). `hash_of` may be keyed, so that nobody outside can craft ids that all share a hash; it changes no answer.
    What every row begins with, `beginning`, is kept once.
    """

    __slots__ = (
        "_beginning", "_changes", "_hash_of", "_recent", "_recent_bytes", "_recent_min_ms", "_sealed", "_stretches",
    )  # fmt: skip

    def __init__(self, hash_of: Callable[[bytes], int] = xxh3_64_intdigest, beginning: bytes = b"") -> None:
        self._hash_of = hash_of
        self._beginning = beginning
        self._recent: dict[bytes, tuple[int, bytes]] = {}
        self._recent_bytes = 0
        self._recent_min_ms = NEVER
        """No recent unit is older."""
        self._sealed = 0
        self._stretches: list[Stretch] = []
        """By day."""
        self._changes = 0

    def __len__(self) -> int:
        """How many units are asleep."""
        return len(self._recent) + self._sealed

    def put(self, kind: str, unit_id: str, last_ms: int, row: bytes) -> None:
        """Put a unit to sleep; an older row of the same kind and id is replaced.

        Raises:
            ValueError: the kind is not one of `KINDS`, the id (1,023 bytes) or the row (32 MiB) is too long, or the row
                has another beginning.
        """
        if not row.startswith(self._beginning):
            raise ValueError(f"the row of {kind} {unit_id!r} does not begin as those of sleeping units do")
        row = row[len(self._beginning) :]
        name = _name(kind, unit_id)
        if len(name) > MOST_NAME_BYTES:
            raise ValueError(f"the id of a {kind} has {len(name) - 1} bytes; at most {MOST_NAME_BYTES - 1} can sleep")
        if len(row) > MOST_ROW_BYTES:
            raise ValueError(f"the row of {kind} {unit_id!r} has {len(row)} bytes; at most {MOST_ROW_BYTES} can sleep")
        self._remove(name)
        self._recent[name] = (last_ms, row)
        self._recent_bytes += len(row)
        self._recent_min_ms = min(self._recent_min_ms, last_ms)
        self._changes += 1
        most = max(FEWEST_RECENT, min(MOST_RECENT, self._sealed >> 4))
        if len(self._recent) > most or self._recent_bytes > MOST_RECENT_BYTES:
            self._seal()

    def pop(self, kind: str, unit_id: str) -> bytes | None:
        """Wake a unit: its row, which is gone from here, or None if it is not asleep."""
        if not self._recent and not self._stretches:
            return None
        row = self._remove(_name(kind, unit_id))
        return None if row is None else self._beginning + row

    def peek(self, kind: str, unit_id: str) -> bytes | None:
        """The row of a sleeping unit, or None if it is not asleep."""
        if not self._recent and not self._stretches:
            return None
        name = _name(kind, unit_id)
        recent = self._recent.get(name)
        if recent is not None:
            return self._beginning + recent[1]
        stretch, place = self._find(name)
        return None if stretch is None else self._beginning + stretch.row(place)

    def expired(self, before_ms: int, most: int) -> list[tuple[str, str, bytes]]:
        """Remove and return the units without a message since `before_ms`: (kind, id, row), the `most` oldest first."""
        return self._take_oldest(before_ms, most)

    def oldest(self, most: int) -> list[tuple[str, str, bytes]]:
        """Remove and return the `most` oldest units, or all if there are fewer: (kind, id, row), oldest first."""
        return self._take_oldest(NEVER, most)

    def rows(self, kind: str) -> Iterator[tuple[str, bytes]]:
        """Ids and rows of all units of a kind, sorted by (last_ms, id).

        Raises:
            RuntimeError: units came or went during the iteration.
        """
        changes = self._changes
        for unit in self._by_age(_name(kind, "")[0]):
            yield _id_of(unit.name), self._beginning + unit.row
            if self._changes != changes:
                raise RuntimeError("units came or went during the iteration over rows; make a list of it first")

    def _first_ms(self) -> int:
        """No unit is older than this; it may be earlier than the oldest."""
        if not self._recent:
            self._recent_min_ms = NEVER
        return min([self._recent_min_ms, *(stretch.min_ms for stretch in self._oldest_day())])

    def _oldest_day(self) -> Iterator[Stretch]:
        """The stretches of the oldest day that has any."""
        return takewhile(lambda stretch: stretch.day == self._stretches[0].day, self._stretches)

    def _remove(self, name: bytes) -> bytes | None:
        recent = self._recent.pop(name, None)
        if recent is not None:
            self._recent_bytes -= len(recent[1])
            self._changes += 1
            return recent[1]
        stretch, place = self._find(name)
        return None if stretch is None else self._remove_from(stretch, place)

    def _find(self, name: bytes) -> tuple[Stretch | None, int]:
        """The stretch with a sealed unit, and its place there; None if there is no such unit."""
        digest = self._hash_of(name) & HASH_MASK
        mask = MASKS[digest & 63]
        for stretch in self._stretches:
            if stretch.filter[digest >> stretch.shift] & mask == mask:
                place = stretch.find(name, digest)
                if place >= 0:
                    return stretch, place
        return None, -1

    def _remove_from(self, stretch: Stretch, place: int) -> bytes:
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
        recent: list[tuple[int, bytes]] | None = None
        while len(taken) < most:
            stretch = self._oldest_stretch(before_ms)
            sealed = (before_ms, b"") if stretch is None else stretch.oldest()
            if recent is None and self._recent_min_ms <= sealed[0]:
                recent = self._recent_before(before_ms, most - len(taken))
            if recent and recent[-1] < sealed:
                name = recent.pop()[1]
                row = self._recent[name][1]
                self._remove(name)
            elif stretch is not None:
                name = sealed[1]
                row = self._remove_from(stretch, stretch.oldest_place())
            else:
                break
            taken.append((KINDS[name[0] - 1], _id_of(name), self._beginning + row))
        if recent is not None:
            self._recent_min_ms = min((last_ms for last_ms, _ in self._recent.values()), default=NEVER)
        return taken

    def _recent_before(self, before_ms: int, most: int) -> list[tuple[int, bytes]]:
        """`(last_ms, name)` of the `most` oldest recent units from before `before_ms`, the oldest one last."""
        ages = ((last_ms, name) for name, (last_ms, _) in self._recent.items() if last_ms < before_ms)
        return nsmallest(most, ages)[::-1]

    def _oldest_stretch(self, before_ms: int) -> Stretch | None:
        """The stretch with the oldest sealed unit, if that is from before `before_ms`."""
        found: Stretch | None = None
        for stretch in self._oldest_day():
            if stretch.min_ms >= before_ms or stretch.oldest()[0] >= before_ms:
                continue
            if found is None or stretch.oldest() < found.oldest():
                found = stretch
        return found

    def _by_age(self, code: int) -> Iterator[Unit]:
        """The units of a kind, oldest first: day by day, so that little is unpacked at once."""
        recent: dict[int, list[Unit]] = {}
        for name, (last_ms, row) in self._recent.items():
            if name[0] == code:
                recent.setdefault(last_ms // DAY_MS, []).append(Unit(last_ms, name, row))
        for day in sorted({*recent, *(stretch.day for stretch in self._stretches)}):
            sealed = [stretch.units(code) for stretch in self._stretches if stretch.day == day]
            yield from merge(sorted(recent.get(day, [])), *sealed)

    def _seal(self) -> None:
        """Move the recent units into the stretches of their days."""
        days: dict[int, list[Unit]] = {}
        for name, (last_ms, row) in self._recent.items():
            days.setdefault(last_ms // DAY_MS, []).append(Unit(last_ms, name, row))
        for day, units in days.items():
            self._open_stretch(day).add(units, self._hash_of)
        self._sealed += len(self._recent)
        self._recent = {}
        self._recent_bytes = 0
        self._recent_min_ms = NEVER

    def _open_stretch(self, day: int) -> Stretch:
        """The stretch that takes in new units of this day."""
        for stretch in self._stretches:
            if stretch.day == day and not stretch.is_full():
                return stretch
        stretch = Stretch(day)
        insort(self._stretches, stretch, key=lambda each: each.day)
        return stretch


def _name(kind: str, unit_id: str) -> bytes:
    """A unit's name, which sorts as (kind, id) does."""
    prefix = _PREFIXES.get(kind)
    if prefix is None:
        raise ValueError(f"a {kind!r} cannot be put to sleep; kinds are {', '.join(KINDS)}")
    return prefix + unit_id.encode("utf-8", "surrogatepass")


def _id_of(name: bytes) -> str:
    return name[1:].decode("utf-8", "surrogatepass")
