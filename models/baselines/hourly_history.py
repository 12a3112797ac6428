"""What a scope spent in each active hour of the past week: what is normal for it, at all and at this hour of the day.

Medians are held as twice the median, an integer, so that every comparison with them is exact.
"""

import math
import statistics
import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.baselines.medians import MAD_TO_SIGMA, median_x2
from models.baselines.packing import VERSION, check_version, pack_integers, unpack_integers
from schemas.duration import DAY_MS, HOUR_MS

WINDOW_MS: Final = 168 * HOUR_MS
"""The past a baseline looks at: seven days."""
KEPT_MS: Final = WINDOW_MS + DAY_MS
"""How long an hour is kept: a record may be a day late, and is then judged by the week before its own hour."""
MAX_NANOUSD: Final = 2**63 - 1
"""The most one hour or run can hold, 9.2 billion dollars; a larger amount is kept as this."""
NORMAL, BREACH, PLANNED, FORMER = 0, 1, 2, 3
"""What an hour is marked as. Only normal hours make a baseline. Enough breaches become the new normal, and the hours
before them are former ones. Planned hours are part of nothing: somebody has said that they are an exception."""

MAD_EFFICIENCY: Final = 0.37
ONCE_IN_A_HUNDRED: Final = 2.3263
ONCE_IN_A_THOUSAND: Final = 3.0902
"""Standard deviations beyond which so few of all lie."""
_LARGEST_EXPONENT: Final = 20.0
_AROUND_MS: Final = 2 * HOUR_MS
"""Hours of the day so near to one another are as regular as one another."""
_HEAD: Final = "<BHqI"


def _multiple(z: float, log_mad: float, free: float, error: float = 1.0) -> float:
    """The multiple of the median that log-normal values exceed with the chance of `z` standard deviations.

    1.4826 x MAD estimates the standard deviation of the logarithm, as well as 0.37 times as many values would with
    their own, and Student's distribution says how much further the tail of so few lies. Rounded to 4 decimals, so that
    the last bit of one machine's logarithm does not decide.
    """
    sigmas = MAD_TO_SIGMA * log_mad * error * _student(z, max(2.0, MAD_EFFICIENCY * free))
    return round(math.exp(min(sigmas, _LARGEST_EXPONENT)), 4)


def _student(z: float, freedom: float) -> float:
    """`z` standard deviations, where these are estimated with that much freedom."""
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a scope spends in an hour, normally: over its active hours that were neither breaches nor planned."""

    median_x2: int
    """Twice the median in nano-dollars; 0 if there are no active hours."""
    active_hours: int
    mad_nanousd: int
    """Median absolute deviation from the median, rounded down."""
    log_mad: float = field(default=0.0, compare=False)
    """Median absolute deviation of the natural logarithm of an hour's spend."""
    dearest_nanousd: int = field(default=0, compare=False)
    """The most spent in one of them."""

    def trip(self, factor: Fraction) -> int:
        """The smallest spend, in nano-dollars, that is more than `factor` times the median.

        Raises:
            ValueError: there are no active hours, so nothing is known to be normal.
        """
        if not self.active_hours:
            raise ValueError("no active hours, no baseline")
        return factor.numerator * self.median_x2 // (2 * factor.denominator) + 1

    def multiple(self, z: float) -> float:
        """How many times the median an hour costs that one as unlike as these lies above with a chance of `z` standard
        deviations.
        """
        return _multiple(z, self.log_mad, self.active_hours - 1)


class SameHour(NamedTuple):
    """What a scope spends at one hour of the day, normally."""

    median_nanousd: float
    """On the days of the last seven on which it spent anything then."""
    log_mad: float
    """How far an hour near this one lies from its own median on other days: median absolute deviation of logarithms."""
    free: int
    """So many values say so."""
    error: float
    """By so much the median being uncertain widens what is to be expected."""

    def multiple(self, z: float) -> float:
        """How many times the median an hour costs that one as unlike from day to day as these lies above with a chance
        of `z` standard deviations.
        """
        return _multiple(z, self.log_mad, self.free, self.error)


@dataclass(frozen=True, slots=True)
class Breaches:
    """The breaching hours of a stretch of time."""

    hours: int
    total_nanousd: int
    dearest_ms: int
    """Start of the dearest one, 0 if there is none."""
    dearest_nanousd: int


class HourlyHistory:
    """What one scope spent in each closed active hour of the past week. An hour without spend leaves no trace.

    Hours are known by their start. They may be closed in any order; what is older than `KEPT_MS` before the newest
    goes by itself, so a history is bounded whoever feeds it.
    """

    __slots__ = ("_marks", "_spend_nanousd", "_start_ms")

    def __init__(self) -> None:
        self._start_ms = array("q")
        self._spend_nanousd = array("q")
        self._marks = bytearray()

    def __len__(self) -> int:
        return len(self._start_ms)

    def close(self, hour_start_ms: int, spend_nanousd: int, mark: int) -> None:
        """Enters an hour with its final spend, or replaces what was known of it."""
        if spend_nanousd < 0:
            raise ValueError("spend must not be negative")
        place, known = self._find(hour_start_ms)
        spend_nanousd = min(spend_nanousd, MAX_NANOUSD)
        if known:
            self._remove(place, place + 1)
        if spend_nanousd:
            self._insert(place, hour_start_ms, spend_nanousd, mark)

    def mark(self, hour_start_ms: int, mark: int) -> None:
        """Marks a normal hour as a breach, and any hour as planned. A planned hour stays so, and a breach does not
        become normal. An hour that is not kept, because it is too old or nothing was spent, has no mark.
        """
        place, known = self._find(hour_start_ms)
        if known and (mark == PLANNED or self._marks[place] == NORMAL):
            self._marks[place] = mark

    def mark_breaches_planned(self, start_ms: int, end_ms: int) -> None:
        """Marks every breaching hour that started in the stretch as planned: somebody meant what they cost."""
        for place in self._places(start_ms, end_ms):
            if self._marks[place] == BREACH:
                self._marks[place] = PLANNED

    def breaching_hours(self) -> list[int]:
        """The starts of the breaching hours, in order."""
        return [start_ms for start_ms, mark in zip(self._start_ms, self._marks, strict=True) if mark == BREACH]

    def add_late(self, hour_start_ms: int, nanousd: int) -> int:
        """Adds spend that came after its hour was closed, and returns that hour's spend with it.

        An hour too old to be kept is not entered: its late spend is returned alone.
        """
        if nanousd < 0:
            raise ValueError("spend must not be negative")
        place, known = self._find(hour_start_ms)
        if known:
            nanousd = min(self._spend_nanousd[place] + nanousd, MAX_NANOUSD)
            self._spend_nanousd[place] = nanousd
        elif nanousd:
            nanousd = min(nanousd, MAX_NANOUSD)
            self._insert(place, hour_start_ms, nanousd, NORMAL)
        return nanousd

    def prune(self, now_hour_ms: int) -> None:
        """Forgets hours that started more than `KEPT_MS` before the hour `now_hour_ms`."""
        self._remove(0, bisect_left(self._start_ms, now_hour_ms - KEPT_MS))

    def is_planned(self, hour_start_ms: int) -> bool:
        """Whether somebody has said that what the hour cost was meant."""
        place, known = self._find(hour_start_ms)
        return known and self._marks[place] == PLANNED

    def spend(self, hour_start_ms: int) -> int:
        """Nano-dollars spent in the hour, 0 for one that is not kept."""
        place, known = self._find(hour_start_ms)
        return self._spend_nanousd[place] if known else 0

    def baseline(self, now_hour_ms: int) -> Baseline:
        """What is normal for the hour that starts at `now_hour_ms`, from the 168 hours before it."""
        spend, marks = self._between(now_hour_ms - WINDOW_MS, now_hour_ms)
        return _baseline(spend[marks == NORMAL])

    def same_hour(self, now_hour_ms: int) -> SameHour | None:
        """What is normal at this hour of the day (UTC), from the 168 hours before; None if it was active once at most.

        How unlike it is from day to day is measured over the hours around it together, each against its own median.
        """
        places = self._places(now_hour_ms - WINDOW_MS, now_hour_ms)
        by_hour: dict[int, list[float]] = {}
        for place in places:
            if self._marks[place] == NORMAL:
                by_hour.setdefault(self._start_ms[place] % DAY_MS, []).append(math.log(self._spend_nanousd[place] or 1))
        here = by_hour.get(now_hour_ms % DAY_MS, ())
        if len(here) < 2:
            return None
        middles = {hour: statistics.median(logs) for hour, logs in by_hour.items() if len(logs) > 1}
        around = [hour for hour in middles if (hour - now_hour_ms + _AROUND_MS) % DAY_MS <= 2 * _AROUND_MS]
        apart = [abs(log - middles[hour]) for hour in around for log in by_hour[hour]]
        free = len(apart) - len(around)
        # Each hour's own median lies nearer to its values than the true one, and is itself not sure.
        error = math.sqrt(len(apart) / free * (1 + math.pi / 2 / len(here)))
        middle = middles[now_hour_ms % DAY_MS]
        return SameHour(math.exp(middle), statistics.median(apart), free, error)

    def level(self, start_ms: int, end_ms: int) -> Baseline:
        """What the hours that started in the stretch cost, breaching ones too: planned ones alone do not count."""
        spend, marks = self._between(start_ms, end_ms)
        return _baseline(spend[marks != PLANNED])

    def known_hours(self, now_hour_ms: int) -> int:
        """How many active hours of the 168 before `now_hour_ms` say something of the scope: all but planned ones."""
        _, marks = self._between(now_hour_ms - WINDOW_MS, now_hour_ms)
        return int(np.count_nonzero(marks != PLANNED))

    def reaches_back(self, now_hour_ms: int, age_ms: int) -> bool:
        """Whether an hour is kept that started `age_ms` before `now_hour_ms`, or earlier."""
        return bool(self._start_ms) and self._start_ms[0] <= now_hour_ms - age_ms

    def unplanned_spend(self, hours_ms: Iterable[int]) -> int:
        """The most spent in one of the hours with these starts, planned ones left out; 0 if none is kept."""
        found = (self._find(start_ms) for start_ms in hours_ms)
        return max(
            (self._spend_nanousd[place] for place, known in found if known and self._marks[place] != PLANNED), default=0
        )

    def share_of(self, other: "HourlyHistory", now_hour_ms: int) -> tuple[int, Fraction]:
        """How many normal hours of the 168 before it has had, and its share of what `other` spent in those."""
        mine = theirs = hours = 0
        for place in self._places(now_hour_ms - WINDOW_MS, now_hour_ms):
            if self._marks[place] == NORMAL:
                hours += 1
                mine += self._spend_nanousd[place]
                theirs += other.spend(self._start_ms[place])
        return hours, Fraction(mine, theirs) if theirs else Fraction(0)

    def breaches(self, start_ms: int, end_ms: int, besides_ms: int) -> Breaches:
        """The breaching hours that started in the stretch, besides one; planned ones were breaches until then."""
        places = [
            place
            for place in self._places(start_ms, end_ms)
            if self._marks[place] in (BREACH, PLANNED) and self._start_ms[place] != besides_ms
        ]
        dearest = max(places, key=lambda place: self._spend_nanousd[place], default=None)
        return Breaches(
            len(places),
            sum(self._spend_nanousd[place] for place in places),
            0 if dearest is None else self._start_ms[dearest],
            0 if dearest is None else self._spend_nanousd[dearest],
        )

    def new_normal_since(self, now_hour_ms: int, breaches: int, of_hours: int, fewest: int) -> int | None:
        """Start of the level that has become the normal one by the hour `now_hour_ms`, None while none has.

        That is the first breach among the latest `of_hours` active hours, planned ones left out, once at least
        `breaches` of these were breaches. For a scope with few active hours in a week it is also the first of at
        least `fewest` breaches with nothing normal left in the last seven days: the old level is out of sight.
        """
        if not self._marks or self._marks[-1] != BREACH:
            return None
        counted = [place for place in range(len(self._marks)) if self._marks[place] != PLANNED]
        recent = [place for place in counted[-of_hours:] if self._marks[place] == BREACH]
        if len(recent) >= breaches:
            return self._start_ms[recent[0]]
        week = self._places(now_hour_ms - WINDOW_MS, now_hour_ms)
        recent = [place for place in week if self._marks[place] == BREACH]
        if len(recent) >= fewest and not any(self._marks[place] == NORMAL for place in week):
            return self._start_ms[recent[0]]
        return None

    def restart(self, since_ms: int) -> None:
        """Makes all hours from `since_ms` on normal and those before it former ones; planned ones stay planned."""
        for place, start_ms in enumerate(self._start_ms):
            if self._marks[place] != PLANNED:
                self._marks[place] = FORMER if start_ms < since_ms else NORMAL

    def to_bytes(self) -> bytes:
        """The history as a row: about 1 byte for when and 1 to 8 for how much, per active hour."""
        first_ms = self._start_ms[0] if self._start_ms else 0
        since_ms = [start - first_ms for start in self._start_ms]
        unit_ms = math.gcd(*since_ms) or 1
        head = struct.pack(_HEAD, VERSION, len(self), first_ms, unit_ms)
        when = pack_integers([since // unit_ms for since in since_ms])
        return head + when + pack_integers(self._spend_nanousd) + bytes(self._marks)

    @classmethod
    def from_bytes(cls, row: bytes) -> "HourlyHistory":
        """The history that `to_bytes` wrote.

        Raises:
            ValueError: the row is of another version, or broken.
        """
        check_version(row)
        history = cls()
        try:
            _, count, first_ms, unit_ms = struct.unpack_from(_HEAD, row)
            when, place = unpack_integers(row, struct.calcsize(_HEAD), count)
            spend, place = unpack_integers(row, place, count)
            history._start_ms.extend(first_ms + since * unit_ms for since in when)
            history._spend_nanousd.extend(spend)
        except (struct.error, KeyError, OverflowError) as error:
            raise ValueError(f"broken row of an hourly history: {error}") from error
        history._marks = bytearray(row[place:])
        if len(history._marks) != count:
            raise ValueError("broken row of an hourly history: wrong length")
        return history

    def _places(self, start_ms: int, end_ms: int) -> range:
        return range(bisect_left(self._start_ms, start_ms), bisect_left(self._start_ms, end_ms))

    def _between(self, start_ms: int, end_ms: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
        """Spend and marks of the hours that started in the stretch."""
        places = self._places(start_ms, end_ms)
        spend = np.frombuffer(self._spend_nanousd[places.start : places.stop], dtype=np.int64)
        return spend, np.frombuffer(self._marks[places.start : places.stop], dtype=np.uint8)

    def _find(self, hour_start_ms: int) -> tuple[int, bool]:
        place = bisect_left(self._start_ms, hour_start_ms)
        return place, place < len(self) and self._start_ms[place] == hour_start_ms

    def _insert(self, place: int, hour_start_ms: int, spend_nanousd: int, mark: int) -> None:
        if self._start_ms and hour_start_ms < self._start_ms[-1] - KEPT_MS:
            return
        self._start_ms.insert(place, hour_start_ms)
        self._spend_nanousd.insert(place, spend_nanousd)
        self._marks.insert(place, mark)
        self.prune(self._start_ms[-1])

    def _remove(self, start: int, end: int) -> None:
        del self._start_ms[start:end]
        del self._spend_nanousd[start:end]
        del self._marks[start:end]


def _baseline(spend: npt.NDArray[np.int64]) -> Baseline:
    count = len(spend)
    if not count:
        return Baseline(0, 0, 0)
    spend = np.sort(spend)
    twice = int(spend[(count - 1) // 2]) + int(spend[count // 2])
    if twice + 2 * int(spend[-1]) <= MAX_NANOUSD:
        deviations = np.sort(np.abs(2 * spend - twice))
        deviation_x4 = int(deviations[(count - 1) // 2]) + int(deviations[count // 2])
    else:  # in 64 bits it would wrap
        deviation_x4 = median_x2(abs(2 * value - twice) for value in spend.tolist())
    logs = np.log(spend)
    middle = (logs[(count - 1) // 2] + logs[count // 2]) / 2
    apart = np.sort(np.abs(logs - middle))
    return Baseline(
        twice, count, deviation_x4 // 4, float(apart[(count - 1) // 2] + apart[count // 2]) / 2, int(spend[-1])
    )
