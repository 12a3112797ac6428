"""Which events have been counted already: 64-bit hashes of their ids, remembered for a window of time.

Hashes live in generations, each of which collects for half a window; one is forgotten when its youngest hash is a
window old. So an id is known for one to one and a half windows. A generation keeps its newest hashes in a set and seals
them, a few thousand at a time, into sorted arrays behind a bit filter: 12 to 16 bytes an id against 75 in a set.
Two different ids share a hash once in 2**64 pairs: with 10 million remembered, one event in 2 * 10**12 is dropped.
"""

from array import array
from bisect import bisect_left
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from models.state.filters import MASKS, MASKS_ARRAY
from schemas.duration import HOUR_MS

WINDOW_MS: Final = 2 * HOUR_MS
GENERATIONS_A_WINDOW: Final = 2
"""More of them forget more punctually, and cost every event one more look."""
SEAL_AT: Final = 4096
"""How many of the newest hashes stay in a set."""
MOST_IN_A_ROW: Final = 65_536
"""Half a megabyte: well under what a broker takes."""

_Hashes = npt.NDArray[np.uint64]
_HASH: Final = np.dtype("<u8")
_SMALLEST_FILTER: Final = 4 * SEAL_AT
_NEVER: Final = -(1 << 63)


class NewIds(NamedTuple):
    """Hashes to write down: to be handed to `SeenIds.restore`, in any order, once or more often."""

    generation: int
    started_ms: int
    hashes: bytes
    """8 bytes each, little endian. Empty if a generation started with no new id in it yet."""
    sealed: bool = False
    """Whether these stand in for all rows of the generation that were not sealed."""


class _Generation:
    """The hashes of one stretch of time."""

    __slots__ = ("filter", "number", "recent", "sealed", "sealed_count", "shift", "started_ms")

    def __init__(self, number: int, started_ms: int, filter_bytes: int = _SMALLEST_FILTER) -> None:
        self.number = number
        self.started_ms = started_ms
        self.recent: set[int] = set()
        self.sealed: list[memoryview[int]] = []
        self.sealed_count = 0
        self.filter = bytearray(filter_bytes)
        self.shift = 65 - filter_bytes.bit_length()

    def holds_sealed(self, digest: int) -> bool:
        """Whether a hash that passed the filter is really there."""
        for hashes in self.sealed:
            place = bisect_left(hashes, digest)
            if place < len(hashes) and hashes[place] == digest:
                return True
        return False

    def seal_recent(self) -> None:
        """Moves the set into the arrays."""
        self.seal(np.fromiter(self.recent, dtype=np.uint64, count=len(self.recent)))
        self.recent = set()

    def seal(self, hashes: _Hashes) -> None:
        """Adds an array of hashes. Arrays of like size are merged, so there are few and each hash moves seldom."""
        if not len(hashes):
            return
        self.sealed_count += len(hashes)
        if self.sealed_count * 4 > len(self.filter):
            self._widen_filter()
        self._mark(hashes)
        while self.sealed and len(self.sealed[-1]) < 2 * len(hashes):
            hashes = np.concatenate((np.asarray(self.sealed.pop()), hashes))
        self.sealed.append(memoryview(np.sort(hashes).data))

    def _widen_filter(self) -> None:
        filter_bytes = 1 << (4 * self.sealed_count).bit_length()
        self.filter = bytearray(filter_bytes)
        self.shift = 65 - filter_bytes.bit_length()
        for hashes in self.sealed:
            self._mark(np.asarray(hashes))

    def _mark(self, hashes: _Hashes) -> None:
        cells = np.frombuffer(self.filter, dtype=np.uint8)
        np.bitwise_or.at(cells, hashes >> np.uint64(self.shift), MASKS_ARRAY[hashes & np.uint64(63)])


class SeenIds:
    """Remembers each event id for at least `window_ms` of the time it is given, and not much longer while events flow.

    `seed` keys the hashes, so that nobody who does not know it can craft an id that hides somebody else's event. What
    was written down under one seed means nothing under another: it is written down with them.
    """

    __slots__ = ("_dropped", "_new", "_now", "_past", "_rotate_at_ms", "_rows", "seed", "window_ms")

    def __init__(self, window_ms: int = WINDOW_MS, seed: int = 0) -> None:
        self.seed = seed
        self.window_ms = window_ms
        self._now = _Generation(0, _NEVER)
        self._past: list[_Generation] = []
        """The youngest first: that is where repeats are found most often."""
        self._rotate_at_ms = _NEVER
        self._new = array("Q")
        self._rows: list[NewIds] = []
        self._dropped: set[int] = set()

    def add(self, tenant_id: str, event_id: str, now_ms: int) -> bool:
        """Whether this id is new; from now on it is not. A `now_ms` that goes back moves nothing back."""
        digest = xxh3_64_intdigest(f"{tenant_id}\0{event_id}".encode(), self.seed)
        if now_ms >= self._rotate_at_ms:
            self._rotate(now_ms)
        now = self._now
        if digest in now.recent:
            return False
        mask = MASKS[digest & 63]
        if now.filter[digest >> now.shift] & mask == mask and now.holds_sealed(digest):
            return False
        for past in self._past:
            if past.filter[digest >> past.shift] & mask == mask and past.holds_sealed(digest):
                return False
        now.recent.add(digest)
        self._new.append(digest)
        if len(now.recent) >= SEAL_AT:
            self._seal()
        return True

    def remember(self, window_ms: int) -> None:
        """Remember for another length of time from now on. What is forgotten already stays forgotten."""
        self.window_ms = window_ms
        self._rotate_at_ms = _NEVER  # when this generation ends is looked at again with the next event

    def __len__(self) -> int:
        """How many ids are remembered."""
        return sum(len(generation.recent) + generation.sealed_count for generation in (self._now, *self._past))

    def size_bytes(self) -> int:
        """Memory held by sealed hashes and filters, to be watched."""
        return sum(8 * generation.sealed_count + len(generation.filter) for generation in (self._now, *self._past))

    def take_new(self) -> list[NewIds]:
        """What was added since the last call, oldest generation first. A generation's start is told even if empty."""
        self._close_row()
        rows, self._rows = self._rows, []
        return rows

    def dropped_generations(self) -> list[int]:
        """Generations forgotten since the last call: their rows can be deleted."""
        dropped, self._dropped = sorted(self._dropped), set()
        return dropped

    def restore(self, generation: int, started_ms: int, hashes: bytes, sealed: bool = False) -> None:
        """Takes back a row of `take_new`. Rows may come in any order and more than once, all of them before any `add`.

        Raises:
            ValueError: `hashes` is not a whole number of hashes.
        """
        self._rotate_at_ms = _NEVER
        into = self._restored(generation, started_ms)
        found = np.frombuffer(hashes, dtype=_HASH).astype(np.uint64)
        if sealed or into is not self._now:
            into.seal(found)
        else:
            into.recent.update(found.tolist())

    def _restored(self, number: int, started_ms: int) -> _Generation:
        """The generation of that number, which may be the newest so far."""
        for generation in (self._now, *self._past):
            if generation.number == number:
                return generation
        made = _Generation(number, started_ms)
        if number > self._now.number:
            self._retire(self._now)
            self._now = made
        else:
            self._past.append(made)
            self._past.sort(key=lambda each: -each.number)
        return made

    def _retire(self, generation: _Generation) -> None:
        """It is no longer the one that collects."""
        if generation.number > 0:
            generation.seal_recent()
            self._past.insert(0, generation)

    def _rotate(self, now_ms: int) -> None:
        """Begin another generation, unless it is only after a restore that nobody knew when the next one is due."""
        length_ms = self.window_ms // GENERATIONS_A_WINDOW
        if now_ms >= self._now.started_ms + length_ms:
            if self._now.recent:
                self._seal()
            before = self._now
            self._retire(before)
            # As wide as the last one became: at a steady rate no filter is ever built twice.
            self._now = _Generation(before.number + 1, now_ms, len(before.filter))
            self._rows.append(NewIds(self._now.number, now_ms, b""))
        self._forget()
        self._rotate_at_ms = self._now.started_ms + length_ms

    def _forget(self) -> None:
        """Drop the generations whose youngest hash is as old as the window: when the next began, they took no more.

        As of the last rotation, not of now: who was restored since then forgets what one that never stopped does.
        """
        now_ms = self._now.started_ms
        ended_ms = self._now.started_ms
        for place, generation in enumerate(self._past):
            if ended_ms + self.window_ms <= now_ms:
                self._dropped.update(each.number for each in self._past[place:])
                del self._past[place:]
                return
            ended_ms = generation.started_ms

    def _seal(self) -> None:
        """Move the newest hashes into an array: one row with all of them stands in for the many they were written in.

        So there are never more than `SEAL_AT` small rows, however many batches brought them.
        """
        now = self._now
        hashes = np.fromiter(now.recent, dtype=np.uint64, count=len(now.recent))
        self._rows = [row for row in self._rows if row.generation != now.number or row.sealed]
        for first in range(0, len(hashes), MOST_IN_A_ROW):  # after a restore there may be more of them than usual
            row = hashes[first : first + MOST_IN_A_ROW].astype(_HASH).tobytes()
            self._rows.append(NewIds(now.number, now.started_ms, row, sealed=True))
        self._new = array("Q")
        now.recent = set()
        now.seal(hashes)

    def _close_row(self) -> None:
        """Turns the hashes added since the last row into one, in place of the same generation's empty row."""
        if not self._new:
            return
        if self._rows and self._rows[-1].generation == self._now.number and not self._rows[-1].sealed:
            self._rows.pop()
        hashes = np.asarray(self._new, dtype=_HASH).tobytes()
        self._rows.append(NewIds(self._now.number, self._now.started_ms, hashes))
        self._new = array("Q")
