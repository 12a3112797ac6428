"""Calendar periods: pure functions of an instant and a time zone, so that nothing ever has to be reset.

Zone rules come from the `tzdata` package and never from the machine, so that a replay cuts time the same everywhere.
"""

import importlib.resources
import re
from bisect import bisect_right, insort
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo

Period = Literal["hour", "day", "week", "month"]
PERIODS: Final[tuple[Period, ...]] = get_args(Period)

MIN_MS: Final = -2_208_988_800_000
"""1900-01-01T00:00:00Z, the first instant a calendar answers for."""
END_MS: Final = 7_258_118_400_000
"""2200-01-01T00:00:00Z, the first instant past those a calendar answers for."""

_HOUR_S: Final = 3600
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ONE_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
_ZONE_NAME: Final = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*")
_KEPT: Final = 256
_FOREVER: Final = 1 << 63


class Window(NamedTuple):
    """A stretch of time: from `start_ms` to before `end_ms`."""

    start_ms: int
    end_ms: int


class Calendar:
    """Hours, days, weeks and months of one time zone. The windows of a period tile time without gap or overlap.

    Raises:
        ValueError: the zone is unknown.
    """

    def __init__(self, timezone: str) -> None:
        self.timezone = timezone
        self._zone = _load_zone(timezone)
        self._last: dict[Period, Window] = dict.fromkeys(PERIODS, Window(0, 0))
        self._recent: dict[Period, list[Window]] = {period: [] for period in PERIODS}
        self._alike: tuple[int, int, tuple[tuple[int, ...], ...]] = (0, 0, ())

    def window(self, period: Period, at_ms: int) -> Window:
        """The window of `period` that contains `at_ms`.

        A day starts at the first instant at which the zone's clocks show its date or a later one: at midnight, or
        after the gap that swallowed midnight, and once only where clocks go back over midnight. Weeks start on Monday.
        An hour starts when the clocks show a full hour and is 60 real minutes long, so the hour repeated in autumn is
        two windows. Only where an offset changes by a part of an hour does the change cut an hour short.

        Raises:
            ValueError: `at_ms` is before 1900 or not before 2200 (UTC).
        """
        last = self._last[period]
        if last.start_ms <= at_ms < last.end_ms:
            return last
        return self._look_up(period, at_ms)

    def hours_alike(self, hour_start_ms: int, days: int) -> tuple[tuple[int, ...], ...]:
        """For each of the `days` days before, nearest first, the starts of the hours like the one that starts then.

        Alike are the hours at which the clocks showed the same, and the one exactly so many times 24 hours ago: a
        job may run by local or by universal time. The two are one and the same except in the days after the clocks
        have changed. A time that the clocks showed twice is two hours, one that they skipped is none.
        """
        start_ms, known_days, alike = self._alike
        if start_ms != hour_start_ms or known_days != days:
            alike = tuple(self._alike_on(hour_start_ms // 1000, day) for day in range(1, days + 1))
            self._alike = (hour_start_ms, days, alike)
        return alike

    def _alike_on(self, start_s: int, days: int) -> tuple[int, ...]:
        shown = self._local(start_s).replace(tzinfo=None, fold=0) - days * _ONE_DAY
        starts = {(start_s - days * 86_400) * 1000}
        for fold in (0, 1):
            at_s = _epoch_s(shown.replace(tzinfo=self._zone, fold=fold))
            if self._local(at_s).replace(tzinfo=None) == shown:
                starts.add(at_s * 1000)
        return tuple(sorted(starts))

    def _look_up(self, period: Period, at_ms: int) -> Window:
        recent = self._recent[period]
        place = bisect_right(recent, (at_ms, _FOREVER))
        if place and at_ms < recent[place - 1].end_ms:
            found = recent[place - 1]
        else:
            if not MIN_MS <= at_ms < END_MS:
                raise ValueError(f"a calendar answers for the years 1900 to 2199, not for {at_ms} ms since 1970")
            start_s, end_s = self._find(period, at_ms // 1000)
            found = Window(start_s * 1000, end_s * 1000)
            if len(recent) == _KEPT:
                recent.clear()
            insort(recent, found)
        self._last[period] = found
        return found

    def _find(self, period: Period, at_s: int) -> tuple[int, int]:
        match period:
            case "hour":
                return self._hour(at_s)
            case "day":
                return self._day(at_s)
            case "week":
                return self._week(at_s)
            case "month":
                return self._month(at_s)

    def _hour(self, at_s: int) -> tuple[int, int]:
        phase = self._offset_s(at_s) % _HOUR_S
        start_s = at_s - (at_s + phase) % _HOUR_S
        end_s = start_s + _HOUR_S
        if self._offset_s(start_s) % _HOUR_S != phase:
            start_s = _first(start_s, at_s, lambda s: self._offset_s(s) % _HOUR_S == phase)
        if self._offset_s(end_s - 1) % _HOUR_S != phase:
            end_s = _first(at_s, end_s - 1, lambda s: self._offset_s(s) % _HOUR_S != phase)
        return start_s, end_s

    def _day(self, at_s: int) -> tuple[int, int]:
        day = self._date(at_s)
        return self._start_of(day), self._start_of(day + _ONE_DAY)

    def _week(self, at_s: int) -> tuple[int, int]:
        day = self._date(at_s)
        monday = day - day.weekday() * _ONE_DAY
        return self._start_of(monday), self._start_of(monday + 7 * _ONE_DAY)

    def _month(self, at_s: int) -> tuple[int, int]:
        first = self._date(at_s).replace(day=1)
        return self._start_of(first), self._start_of((first + 31 * _ONE_DAY).replace(day=1))

    def _date(self, at_s: int) -> date:
        """The latest date the clocks have shown by `at_s`: where they go back over midnight, not what they show."""
        day = self._local(at_s).date()
        while self._start_of(day + _ONE_DAY) <= at_s:
            day += _ONE_DAY
        return day

    def _start_of(self, day: date) -> int:
        """The first instant at which the clocks show midnight of `day` or later."""
        midnight = datetime(day.year, day.month, day.day, tzinfo=self._zone)
        before_s = _epoch_s(midnight)
        after_s = _epoch_s(midnight.replace(fold=1))
        if before_s <= after_s:
            return before_s
        naive = midnight.replace(tzinfo=None)
        return _first(after_s, before_s, lambda s: self._local(s).replace(tzinfo=None) >= naive)

    def _offset_s(self, at_s: int) -> int:
        offset = self._local(at_s).utcoffset()
        assert offset is not None
        return offset // _SECOND

    def _local(self, at_s: int) -> datetime:
        return (_EPOCH + timedelta(seconds=at_s)).astimezone(self._zone)


def _epoch_s(local: datetime) -> int:
    return (local - _EPOCH) // _SECOND


def _first(low_s: int, high_s: int, holds: Callable[[int], bool]) -> int:
    """The first second from `low_s` on at which `holds` is true; it is at `high_s`, and stays so once it is."""
    while low_s < high_s:
        middle_s = (low_s + high_s) // 2
        if holds(middle_s):
            high_s = middle_s
        else:
            low_s = middle_s + 1
    return low_s


def _load_zone(name: str) -> ZoneInfo:
    """The zone as `tzdata` has it. `ZoneInfo(name)` would read the machine's files first."""
    if not _ZONE_NAME.fullmatch(name):
        raise ValueError(f"unknown time zone: {name!r}")
    file = importlib.resources.files("tzdata").joinpath("zoneinfo", *name.split("/"))
    try:
        with file.open("rb") as rules:
            return ZoneInfo.from_file(rules, key=name)
    except (OSError, ValueError):
        raise ValueError(f"unknown time zone: {name!r}") from None
