"""At what level the finished runs of a workflow cost, hour by hour of the last eight days: what a weekend, a night or a
batch always does is no news.
"""

import struct
from array import array
from bisect import bisect_left
from typing import Final, NamedTuple

from models.baselines.packing import VERSION, check_version, pack_integers, unpack_integers
from schemas.duration import DAY_MS, HOUR_MS

WEEK_MS: Final = 7 * DAY_MS
KEPT_MS: Final = 8 * DAY_MS
_HEAD: Final = "<BHq"
_FIRST_WEEKEND_MS: Final = 2 * DAY_MS
"""From the start of 1970, a Thursday, to its first Saturday."""


class SameHours(NamedTuple):
    """The same hours of another day."""

    same_kind: bool
    """Whether both days are workdays, or both of a weekend (UTC)."""
    runs: int
    mean: float
    """Of the logarithms of costs, in thousandths."""


class RunHours:
    """Runs finished in each hour (UTC), and the sum of the logarithms of their costs in thousandths."""

    __slots__ = ("_packed", "_runs", "_start_ms", "_total")

    def __init__(self) -> None:
        self._start_ms = array("q")
        self._packed = b""
        """The hours as a row holds them, until there is another one; empty where they are to be packed."""
        self._runs = array("q")
        self._total = array("q")

    def add(self, at_ms: int, log_cost: int) -> None:
        """Takes in a run; hours too old to be kept go when a newer one begins."""
        hour_ms = at_ms - at_ms % HOUR_MS
        starts = self._start_ms
        if starts and hour_ms < starts[-1] - KEPT_MS:
            return
        place = bisect_left(starts, hour_ms)
        if place < len(starts) and starts[place] == hour_ms:
            self._runs[place] += 1
            self._total[place] += log_cost
            return
        self._packed = b""
        for values, value in ((starts, hour_ms), (self._runs, 1), (self._total, log_cost)):
            values.insert(place, value)
        old = bisect_left(starts, starts[-1] - KEPT_MS)
        del starts[:old], self._runs[:old], self._total[:old]

    def mean(self, start_ms: int, end_ms: int) -> tuple[int, float]:
        """Runs finished in the hours that the stretch touches, and the mean of their logarithms, 0.0 without any."""
        first = bisect_left(self._start_ms, start_ms - start_ms % HOUR_MS)
        last = bisect_left(self._start_ms, end_ms)
        runs = sum(self._runs[first:last])
        return runs, sum(self._total[first:last]) / runs if runs else 0.0

    def start_of_last(self, runs: int) -> int:
        """Start of the hour in which the last `runs` runs began to finish; of the first hour known if it is older."""
        place = len(self._start_ms)
        while place and runs > 0:
            place -= 1
            runs -= self._runs[place]
        return self._start_ms[place] if place < len(self._start_ms) else 0

    def same_hours(self, start_ms: int, end_ms: int, fewest: int, since_ms: int) -> list[SameHours]:
        """The stretch's hours on each of the last seven days before it, from `since_ms` on, on which at least `fewest`
        runs finished in them. Of more than a day only the same days of the week before are the same.
        """
        days = []
        middle_ms = (start_ms + end_ms) // 2
        first_ms = DAY_MS if end_ms - start_ms <= DAY_MS else WEEK_MS
        for shift_ms in range(first_ms, KEPT_MS, DAY_MS):
            if end_ms - shift_ms <= start_ms - start_ms % HOUR_MS and start_ms - shift_ms >= since_ms:
                runs, mean = self.mean(start_ms - shift_ms, end_ms - shift_ms)
                if runs >= fewest:
                    days.append(SameHours(_is_weekend(middle_ms) == _is_weekend(middle_ms - shift_ms), runs, mean))
        return days

    def to_bytes(self) -> bytes:
        """As a row: about 6 bytes an hour in which a run finished."""
        if not self._packed:
            first_ms = self._start_ms[0] if self._start_ms else 0
            since = [(start_ms - first_ms) // HOUR_MS for start_ms in self._start_ms]
            self._packed = struct.pack(_HEAD, VERSION, len(since), first_ms) + pack_integers(since)
        return self._packed + pack_integers(self._runs) + pack_integers(self._total)

    @classmethod
    def from_bytes(cls, row: bytes) -> "RunHours":
        """What `to_bytes` wrote.

        Raises:
            ValueError: the row is of another version, or broken.
        """
        check_version(row)
        hours = cls()
        try:
            _, count, first_ms = struct.unpack_from(_HEAD, row)
            since, place = unpack_integers(row, struct.calcsize(_HEAD), count)
            runs, place = unpack_integers(row, place, count)
            totals, place = unpack_integers(row, place, count)
        except (struct.error, KeyError) as error:
            raise ValueError(f"broken row of a workflow's hours: {error}") from error
        if place != len(row):
            raise ValueError("broken row of a workflow's hours: wrong length")
        hours._start_ms.extend(first_ms + hour * HOUR_MS for hour in since)
        hours._runs.extend(runs)
        hours._total.extend(totals)
        return hours


def _is_weekend(at_ms: int) -> bool:
    return (at_ms - _FIRST_WEEKEND_MS) % WEEK_MS < 2 * DAY_MS
