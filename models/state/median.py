"""Exact medians of money: a scope's active hours of the past week, and the cost of a workflow's last runs.

Medians are kept as twice the median, an integer, so that every comparison with them is exact.
"""

import math
import struct
from array import array
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

HOUR_MS = 3_600_000
WINDOW_MS = 168 * HOUR_MS
"""The past a baseline looks at: seven days."""
KEPT_MS = WINDOW_MS + 24 * HOUR_MS
"""How long an hour is kept: a record may be a day late, and is then judged by the week before its own hour."""
MAX_NANOUSD = 2**63 - 1
"""The most one hour or run can hold, 9.2 billion dollars; a larger amount is kept as this."""
RUNS_KEPT = 256
NORMAL, BREACH, PLANNED = 0, 1, 2
"""What an hour is marked as. Only normal ones make a baseline; breaches in a row may become the new normal, planned
hours never do: somebody has said that what they cost is an exception."""

_MAD_TO_SIGMA = 1.4826
_VERSION = 1


def median_x2(values: Sequence[int] | Iterable[int]) -> int:
    """Twice the median, exact.

    Raises:
        ValueError: there are no values.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values, no median")
    return ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a scope spends in an hour, normally: over its active hours that were neither breaches nor planned."""

    median_x2: int
    """Twice the median in nano-dollars; 0 if there are no active hours."""
    active_hours: int
    mad_nanousd: int
    """Median absolute deviation from the median, rounded down."""

    def trip(self, factor: Fraction) -> int:
        """The smallest spend, in nano-dollars, that is more than `factor` times the median.

        Raises:
            ValueError: there are no active hours, so nothing is known to be normal.
        """
        if not self.active_hours:
            raise ValueError("no active hours, no baseline")
        return factor.numerator * self.median_x2 // (2 * factor.denominator) + 1


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
        """Raises the mark of an hour. One that is not kept, because it is too old or nothing was spent, has none."""
        place, known = self._find(hour_start_ms)
        if known:
            self._marks[place] = max(self._marks[place], mark)

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

    def baseline(self, now_hour_ms: int) -> Baseline:
        """What is normal for the hour that starts at `now_hour_ms`, from the 168 hours before it."""
        start = bisect_left(self._start_ms, now_hour_ms - WINDOW_MS)
        end = bisect_left(self._start_ms, now_hour_ms)
        spend = np.frombuffer(self._spend_nanousd[start:end], dtype=np.int64)
        spend = np.sort(spend[np.frombuffer(self._marks[start:end], dtype=np.uint8) == NORMAL])
        count = len(spend)
        if not count:
            return Baseline(0, 0, 0)
        twice = int(spend[(count - 1) // 2]) + int(spend[count // 2])
        # Python's integers from here on: twice a large spend would wrap in 64 bits.
        deviation_x4 = median_x2(abs(2 * value - twice) for value in spend.tolist())
        return Baseline(twice, count, deviation_x4 // 4)

    def breach_streak(self) -> int:
        """How many of the latest active hours in a row were breaches."""
        return len(self._marks) - len(self._marks.rstrip(b"\1"))

    def restart_from_streak(self) -> None:
        """Makes the latest streak of breaches the new normal, and forgets everything before it.

        Raises:
            ValueError: the latest active hour was no breach.
        """
        streak = self.breach_streak()
        if not streak:
            raise ValueError("no streak of breaches to start from")
        self._remove(0, len(self) - streak)
        self._marks = bytearray(streak)

    def to_bytes(self) -> bytes:
        """The history as a row: about 1 byte for when and 1 to 8 for how much, per active hour."""
        first_ms = self._start_ms[0] if self._start_ms else 0
        since_ms = [start - first_ms for start in self._start_ms]
        unit_ms = math.gcd(*since_ms) or 1
        head = struct.pack("<BHqI", _VERSION, len(self), first_ms, unit_ms)
        when = _pack([since // unit_ms for since in since_ms])
        return head + when + _pack(self._spend_nanousd) + bytes(self._marks)

    @classmethod
    def from_bytes(cls, row: bytes) -> "HourlyHistory":
        """The history that `to_bytes` wrote.

        Raises:
            ValueError: the row is of another version, or broken.
        """
        _check_version(row)
        history = cls()
        try:
            _, count, first_ms, unit_ms = struct.unpack_from("<BHqI", row)
            when, place = _unpack(row, struct.calcsize("<BHqI"), count)
            spend, place = _unpack(row, place, count)
            history._start_ms.extend(first_ms + since * unit_ms for since in when)
            history._spend_nanousd.extend(spend)
        except (struct.error, KeyError, OverflowError) as error:
            raise ValueError(f"broken row of an hourly history: {error}") from error
        history._marks = bytearray(row[place:])
        if len(history._marks) != count:
            raise ValueError("broken row of an hourly history: wrong length")
        return history

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


class RecentCosts:
    """The cost of the last `RUNS_KEPT` finished runs of a workflow, and how much it spreads."""

    __slots__ = ("_in_order", "_log_mad", "_sorted")

    def __init__(self) -> None:
        self._in_order: deque[int] = deque()
        self._sorted: list[int] = []
        self._log_mad: float | None = None

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, cost_nanousd: int) -> None:
        """Takes in the cost of one more finished run; the oldest goes when there are more than are kept."""
        if cost_nanousd < 0:
            raise ValueError("a cost must not be negative")
        cost_nanousd = min(cost_nanousd, MAX_NANOUSD)
        if len(self._in_order) == RUNS_KEPT:
            oldest = self._in_order.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]
        self._in_order.append(cost_nanousd)
        insort(self._sorted, cost_nanousd)
        self._log_mad = None

    def median_x2(self) -> int:
        """Twice the median cost in nano-dollars, exact.

        Raises:
            ValueError: no run has finished yet.
        """
        count = len(self._sorted)
        if not count:
            raise ValueError("no values, no median")
        return self._sorted[(count - 1) // 2] + self._sorted[count // 2]

    def log_mad(self) -> float:
        """Median absolute deviation of the natural logarithm of cost; a cost of 0 counts as 1 nano-dollar.

        0.0 while no run has finished.
        """
        if self._log_mad is None:
            self._log_mad = self._measure_log_mad()
        return self._log_mad

    def multiple(self, base: float, z: float = 3.09) -> float:
        """How many times the median a run may cost before it stands out: at least `base`, more where costs spread.

        Costs of healthy runs are close to log-normal. With a standard deviation of s = 1.5 in the logarithm, 14 % of
        them cost more than 5 times the median, so a fixed multiple would cry wolf. 1.4826 x MAD estimates s and is
        not moved by the outliers sought; exp(z x s) is the multiple that the upper tail of z standard deviations
        exceeds: z = 3.09 is one run in a thousand. Rounded to 4 decimals, so that the last bit of one machine's
        logarithm does not decide.
        """
        return round(max(base, math.exp(z * _MAD_TO_SIGMA * self.log_mad())), 4)

    def to_bytes(self) -> bytes:
        """The costs, oldest first, as a row of 1 to 8 bytes each."""
        return struct.pack("<BH", _VERSION, len(self)) + _pack(self._in_order)

    @classmethod
    def from_bytes(cls, row: bytes) -> "RecentCosts":
        """The costs that `to_bytes` wrote.

        Raises:
            ValueError: the row is of another version, or broken.
        """
        _check_version(row)
        costs = cls()
        try:
            _, count = struct.unpack_from("<BH", row)
            in_order, end = _unpack(row, struct.calcsize("<BH"), count)
        except (struct.error, KeyError) as error:
            raise ValueError(f"broken row of recent costs: {error}") from error
        if end != len(row) or count > RUNS_KEPT:
            raise ValueError("broken row of recent costs: wrong length")
        costs._in_order = deque(in_order)
        costs._sorted = sorted(in_order)
        return costs

    def _measure_log_mad(self) -> float:
        if not self._sorted:
            return 0.0
        logs = [math.log(cost or 1) for cost in self._sorted]
        middle = _middle(logs)
        return _middle(sorted(abs(log - middle) for log in logs))


def _middle(ordered: Sequence[float]) -> float:
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _pack(values: Sequence[int] | deque[int]) -> bytes:
    """Non-negative integers at the smallest width that holds them all; the width comes first."""
    largest = max(values, default=0)
    code = next(code for code, bits in (("B", 8), ("H", 16), ("I", 32), ("Q", 64)) if largest < 1 << bits)
    return code.encode() + struct.pack(f"<{len(values)}{code}", *values)


def _unpack(row: bytes, place: int, count: int) -> tuple[tuple[int, ...], int]:
    """The integers that `_pack` wrote at `place`, and the place behind them."""
    code = {b"B": "B", b"H": "H", b"I": "I", b"Q": "Q"}[row[place : place + 1]]
    layout = f"<{count}{code}"
    return struct.unpack_from(layout, row, place + 1), place + 1 + struct.calcsize(layout)


def _check_version(row: bytes) -> None:
    if not row or row[0] != _VERSION:
        raise ValueError(f"a row of version {row[0] if row else 'none'}, and this reads version {_VERSION}")
