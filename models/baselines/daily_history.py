"""What a scope spent on each of the last days: what is normal for a day, for this day of the week and of the month."""

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from models.baselines.hourly_history import MAX_NANOUSD
from models.baselines.medians import median_x2
from models.baselines.packing import VERSION, check_version, pack_integers, unpack_integers
from models.calendar import Calendar
from schemas.duration import DAY_MS, HOUR_MS, MINUTE_MS

KEPT_MS: Final = 36 * DAY_MS
"""Long enough for the same day of the last month, and for four times the same weekday."""
_WEEKS: Final = range(1, 5)
_HEAD: Final = "<BHq"


class Day(NamedTuple):
    """A day by its start, known once something was spent on it or somebody has said that it was planned."""

    start_ms: int
    nanousd: int
    is_planned: bool = False


class DailyHistory:
    """What one scope spent on each closed active day of the past five weeks, the oldest first."""

    __slots__ = ("_days",)

    def __init__(self) -> None:
        self._days: list[Day] = []

    def __len__(self) -> int:
        return len(self._days)

    def add(self, start_ms: int, nanousd: int) -> int:
        """Adds what was spent on a day that is closed, or came late for it; returns all that was, 0 for a day too old
        to be kept.
        """
        if self._days and start_ms < self._days[-1].start_ms - KEPT_MS:
            return 0
        known = self._pop(start_ms)
        total = min(known.nanousd + nanousd, MAX_NANOUSD)
        if total or known.is_planned:
            self._insert(known._replace(nanousd=total))
        return total

    def plan(self, start_ms: int) -> None:
        """Somebody meant what the day costs, over or not: it is no part of what is normal."""
        self._insert(self._pop(start_ms)._replace(is_planned=True))

    def is_planned(self, start_ms: int) -> bool:
        """Whether somebody has said that what the day cost was meant."""
        return any(day.start_ms == start_ms and day.is_planned for day in self._days)

    def spend(self, start_ms: int) -> int:
        """Nano-dollars spent on the day, 0 for one that is not kept."""
        return next((day.nanousd for day in self._days if day.start_ms == start_ms), 0)

    def reaches_back(self, now_ms: int, age_ms: int) -> bool:
        """Whether a day is kept that began `age_ms` before `now_ms`, or earlier; an hour less is enough, for summer."""
        return bool(self._days) and self._days[0].start_ms <= now_ms - age_ms + HOUR_MS

    def active(self, now_ms: int, most: int) -> list[Day]:
        """The last days before `now_ms` on which something was spent, planned ones left out: at most so many."""
        return [day for day in self._days if day.start_ms < now_ms and day.nanousd and not day.is_planned][-most:]

    def between(self, start_ms: int, end_ms: int) -> list[Day]:
        """The days that began in the stretch, planned ones left out."""
        return [day for day in self._days if start_ms <= day.start_ms < end_ms and not day.is_planned]

    def alike(self, calendar: Calendar, start_ms: int) -> int:
        """The most spent on a day like the one that starts then: the same weekday of the last four weeks, or as far
        from the start or end of the last month. 0 without any.
        """
        starts = {calendar.window("day", start_ms - week * 7 * DAY_MS + HOUR_MS).start_ms for week in _WEEKS}
        month = calendar.window("month", start_ms)
        last = calendar.window("month", month.start_ms - 1)
        for same_ms in (last.start_ms + start_ms - month.start_ms, last.end_ms - (month.end_ms - start_ms)):
            starts.add(calendar.window("day", same_ms + HOUR_MS).start_ms)
        return max((day.nanousd for day in self._days if day.start_ms in starts and not day.is_planned), default=0)

    def _pop(self, start_ms: int) -> Day:
        for place, day in enumerate(self._days):
            if day.start_ms == start_ms:
                return self._days.pop(place)
        return Day(start_ms, 0)

    def _insert(self, day: Day) -> None:
        self._days.append(day)
        if len(self._days) > 1 and self._days[-2].start_ms > day.start_ms:
            self._days.sort()
        oldest_ms = self._days[-1].start_ms - KEPT_MS
        if self._days[0].start_ms < oldest_ms:
            self._days = [day for day in self._days if day.start_ms >= oldest_ms]

    def to_bytes(self) -> bytes:
        """As a row: up to 10 bytes a day."""
        first_ms = self._days[0].start_ms if self._days else 0
        since = [(day.start_ms - first_ms) // MINUTE_MS for day in self._days]
        planned = bytes(day.is_planned for day in self._days)
        head = struct.pack(_HEAD, VERSION, len(self), first_ms)
        return head + pack_integers(since) + pack_integers([day.nanousd for day in self._days]) + planned

    @classmethod
    def from_bytes(cls, row: bytes) -> "DailyHistory":
        """The history that `to_bytes` wrote.

        Raises:
            ValueError: the row is of another version, or broken.
        """
        check_version(row)
        history = cls()
        try:
            _, count, first_ms = struct.unpack_from(_HEAD, row)
            since, place = unpack_integers(row, struct.calcsize(_HEAD), count)
            spend, place = unpack_integers(row, place, count)
        except (struct.error, KeyError) as error:
            raise ValueError(f"broken row of a daily history: {error}") from error
        planned = row[place:]
        if len(planned) != count:
            raise ValueError("broken row of a daily history: wrong length")
        history._days = [
            Day(first_ms + minutes * MINUTE_MS, nanousd, bool(mark))
            for minutes, nanousd, mark in zip(since, spend, planned, strict=True)
        ]
        return history


def median_of(days: Iterable[Day]) -> int:
    """Nano-dollars of the median day, rounded down.

    Raises:
        ValueError: there are no days.
    """
    return median_x2(day.nanousd for day in days) // 2
