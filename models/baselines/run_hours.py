"""At what level the finished runs of a workflow cost, hour by hour of the last eight days: what a weekend, a night or a
batch always does is no news.
"""

import struct
from typing import Final, NamedTuple

from models.baselines.packing import VERSION, check_version, pack_integers, unpack_integers
from schemas.duration import DAY_MS, HOUR_MS

WEEK_MS: Final = 7 * DAY_MS
KEPT_MS: Final = 8 * DAY_MS
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

    __slots__ = ("_hours", "_newest_ms")

    def __init__(self) -> None:
        self._hours: dict[int, tuple[int, int]] = {}
        self._newest_ms = 0

    def add(self, at_ms: int, log_cost: int) -> None:
        """Takes in a run; hours too old to be kept go when a newer one begins."""
        hour_ms = at_ms - at_ms % HOUR_MS
        if hour_ms > self._newest_ms:
            self._newest_ms = hour_ms
            self._hours = {start: sums for start, sums in self._hours.items() if start >= hour_ms - KEPT_MS}
        if hour_ms >= self._newest_ms - KEPT_MS:
            runs, total = self._hours.get(hour_ms, (0, 0))
            self._hours[hour_ms] = runs + 1, total + log_cost

    def mean(self, start_ms: int, end_ms: int) -> tuple[int, float]:
        """Runs finished in the hours that the stretch touches, and the mean of their logarithms, 0.0 without any."""
        runs = total = 0
        for hour_ms in range(start_ms - start_ms % HOUR_MS, end_ms, HOUR_MS):
            found = self._hours.get(hour_ms)
            if found is not None:
                runs, total = runs + found[0], total + found[1]
        return runs, total / runs if runs else 0.0

    def start_of_last(self, runs: int) -> int:
        """Start of the hour in which the last `runs` runs began to finish; of the first hour known if it is older."""
        hour_ms = self._newest_ms
        for hour_ms in sorted(self._hours, reverse=True):
            runs -= self._hours[hour_ms][0]
            if runs <= 0:
                break
        return hour_ms

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
        """As a row: about 5 bytes an hour in which a run finished."""
        first_ms = min(self._hours, default=0)
        since = [(start - first_ms) // HOUR_MS for start in self._hours]
        runs, totals = zip(*self._hours.values(), strict=True) if self._hours else ((), ())
        head = struct.pack("<BHqq", VERSION, len(since), first_ms, self._newest_ms)
        return head + pack_integers(since) + pack_integers(runs) + pack_integers(totals)

    @classmethod
    def from_bytes(cls, row: bytes) -> "RunHours":
        """What `to_bytes` wrote.

        Raises:
            ValueError: the row is of another version, or broken.
        """
        check_version(row)
        hours = cls()
        try:
            _, count, first_ms, hours._newest_ms = struct.unpack_from("<BHqq", row)
            since, place = unpack_integers(row, struct.calcsize("<BHqq"), count)
            runs, place = unpack_integers(row, place, count)
            totals, place = unpack_integers(row, place, count)
        except (struct.error, KeyError) as error:
            raise ValueError(f"broken row of a workflow's hours: {error}") from error
        if place != len(row):
            raise ValueError("broken row of a workflow's hours: wrong length")
        for hour, many, total in zip(since, runs, totals, strict=True):
            hours._hours[first_ms + hour * HOUR_MS] = many, total
        return hours


def _is_weekend(at_ms: int) -> bool:
    return (at_ms - _FIRST_WEEKEND_MS) % WEEK_MS < 2 * DAY_MS
