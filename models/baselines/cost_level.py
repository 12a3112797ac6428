"""At what level the runs of a workflow cost, run by run, and what of them changed when.

Costs are kept as the natural logarithm in thousandths, an integer: sums of them are exact, and whoever computes anew
from a row finds the same to the last bit.
"""

import math
import struct
from array import array
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.baselines.medians import MAD_TO_SIGMA
from models.baselines.packing import VERSION, check_version, little_endian
from models.baselines.run_hours import RunHours

KEPT: Final = 512
"""Finished runs kept at most; the older half goes at once, so that what follows from them is worked out seldom."""
DIMENSIONS: Final = ("prompt_version", "model", "route", "environment")
"""What a change of cost is put down to: as the run said it last."""
VALUES_KEPT: Final = 4
"""Values of a dimension that are remembered, the latest to be seen."""
ABSENT: Final = 30
"""A value that no run had for so many runs has changed when it comes back."""
MOST_OF_A_VALUE: Final = 64
"""Characters of a value that are kept."""
MAX_LOG: Final = 2**16 - 1
Logs = npt.NDArray[np.int64]
_CLIP: Final = 3
"""A run counts as no further from the median than so many standard deviations: one that ran away is no level."""
_LEAST_SIGMA: Final = 50.0


class Change(NamedTuple):
    """A value of a dimension that finished runs have had since run number `number`."""

    dimension: str
    value: str
    before: str
    """What the run before had."""
    number: int
    at_ms: int
    latest: int
    """Number of the last run that had it, for a value that is not the present one."""


class Shift(NamedTuple):
    """The level that a rule goes by begins with run `number`."""

    number: int
    at_ms: int
    before: float
    """Level before, as the mean of the logarithms in thousandths."""
    open_until_ms: int
    """Until then it is told of; after that it is the normal one."""


class Spread(NamedTuple):
    """Where runs lie, as logarithms in thousandths."""

    median: float
    sigma: float

    @property
    def reach(self) -> float:
        """How far from the median a run may lie and count as it is."""
        return _CLIP * self.sigma

    def clip(self, logs: Logs) -> npt.NDArray[np.float64]:
        """The logarithms, those far out drawn in."""
        return np.clip(logs.astype(np.float64), self.median - self.reach, self.median + self.reach)

    def middle(self, logs: Logs) -> float:
        """The mean of logarithms, those far out drawn in."""
        return float(self.clip(logs).mean())


class CostLevel:
    """The last finished runs of a workflow in order: what each cost, and since when they are as they are."""

    __slots__ = ("_changes", "_having", "_logs", "_newest", "count", "hours", "memo", "shifts")

    def __init__(self) -> None:
        self.count = 0
        """Runs ever taken in; the number of the next."""
        self._logs = array("H")
        self._having = array("B")
        """Of each run, a bit for each dimension: whether it had the value that was the newest then."""
        self._newest: dict[str, str] = {}
        """Dimension -> the value that came last."""
        self._changes: dict[str, list[Change]] = {name: [] for name in DIMENSIONS}
        self.shifts: dict[str, Shift] = {}
        """Rule -> the last shift it has told of, or found over."""
        self.hours = RunHours()
        self.memo: dict[str, Any] = {}
        """What rules have worked out from the above, to go on from. No part of any row: it can be had again."""

    @property
    def first(self) -> int:
        """Number of the oldest run that is kept."""
        return self.count - len(self._logs)

    def add(self, cost_nanousd: int, values: Sequence[str | None], at_ms: int) -> None:
        """Takes in a finished run, with what it was made of in the order of `DIMENSIONS`."""
        log_cost = min(round(1000 * math.log(cost_nanousd or 1)), MAX_LOG)
        if len(self._logs) == KEPT:
            del self._logs[: KEPT // 2], self._having[: KEPT // 2]
        self._logs.append(log_cost)
        having, bit = 0, 1
        for (name, seen), value in zip(self._changes.items(), values, strict=True):
            known = value[:MOST_OF_A_VALUE] if value else ""
            if not seen or seen[0].value != known:
                self._see(name, seen, known, at_ms)
            if known == self._newest[name]:
                having |= bit
            bit <<= 1
        self._having.append(having)
        self.count += 1
        self.hours.add(at_ms, log_cost)

    def logs(self, start: int, end: int) -> Logs:
        """Logarithms of the runs with these numbers, as far as they are kept."""
        first = self.first
        return np.array(self._logs[max(0, start - first) : max(0, end - first)], dtype=np.int64)

    def changes(self) -> list[Change]:
        """What has changed among the runs that are kept, the latest first."""
        first = self.first
        found = [one for seen in self._changes.values() for one in seen if one.number > first]
        return sorted(found, key=lambda one: (-one.number, one.dimension)) if found else found

    def with_change(self, change: Change) -> tuple[Logs, int]:
        """Logarithms of the runs that had a new value, from the first of them to the next new value of that dimension
        or the latest run, as far as they are kept; and how many runs there were in that time with and without it.
        """
        later = [one.number for one in self._changes[change.dimension] if one.number > change.number]
        start, end = max(0, change.number - self.first), max(0, min([self.count, *later]) - self.first)
        bit = 1 << DIMENSIONS.index(change.dimension)
        having = np.frombuffer(self._having[start:end], dtype=np.uint8) & bit
        return np.array(self._logs[start:end], dtype=np.int64)[having > 0], end - start

    def since(self, number: int) -> Sequence[int]:
        """Logarithms of the runs from that number on, as far as they are kept."""
        return self._logs[max(0, number - self.first) :]

    def at_ms(self, number: int) -> int:
        """About when the run with that number finished: the start of its hour, or of the first that is known."""
        return self.hours.start_of_last(self.count - number)

    def nearest_change(self, number: int, within: int) -> Change | None:
        """The change that lies nearest to a run, at most `within` runs before or after it."""
        near = [one for one in self.changes() if abs(one.number - number) <= within]
        return min(near, key=lambda one: (abs(one.number - number), DIMENSIONS.index(one.dimension)), default=None)

    def _see(self, name: str, seen: list[Change], value: str, at_ms: int) -> None:
        """A run has another value of a dimension than the one before."""
        if seen:
            seen[0] = seen[0]._replace(latest=self.count - 1)
        known = next((one for one in seen if one.value == value), None)
        if known is not None:
            seen.remove(known)
        before = seen[0].value if seen else value
        if known is None or self.count - known.latest > ABSENT:
            known = Change(name, value, before, self.count, at_ms, self.count)
        seen.insert(0, known)
        del seen[VALUES_KEPT:]
        self._newest[name] = _newest_of(seen)

    def fields(self) -> tuple[Any, ...]:
        """As a row holds it."""
        logs = struct.pack("<BQH", VERSION, self.count, len(self._logs)) + little_endian(self._logs)
        return logs, self._having.tobytes(), list(self._changes.values()), self.shifts, self.hours.to_bytes()

    @classmethod
    def read(cls, fields: Sequence[Any]) -> "CostLevel":
        """What `fields` wrote.

        Raises:
            ValueError: the row is of another version, or broken.
        """
        level = cls()
        row, having, changes, shifts, hours = fields
        check_version(row)
        try:
            _, level.count, kept = struct.unpack_from("<BQH", row)
            level._logs = array("H", struct.unpack_from(f"<{kept}H", row, struct.calcsize("<BQH")))
        except struct.error as error:
            raise ValueError(f"broken row of what runs cost: {error}") from error
        level._changes = {name: [Change(*one) for one in seen] for name, seen in zip(DIMENSIONS, changes, strict=True)}
        level._having = array("B", having)
        if len(level._having) != kept:
            raise ValueError("broken row of what runs cost: wrong length")
        level._newest = {name: _newest_of(seen) for name, seen in level._changes.items() if seen}
        level.shifts = {rule: Shift(*shift) for rule, shift in shifts.items()}
        level.hours = RunHours.from_bytes(hours)
        return level


def _newest_of(seen: Sequence[Change]) -> str:
    return max(seen, key=lambda one: one.number).value


def spread_of(logs: Logs) -> Spread:
    """Median and standard deviation of logarithms in thousandths, not moved by the few that lie far out.

    The deviation is that of what lies within `_CLIP` robust ones, so that two modes and heavy tails count as they are.
    """
    median = float(np.median(logs))
    robust = MAD_TO_SIGMA * float(np.median(np.abs(logs - median)))
    drawn_in = Spread(median, max(robust, _LEAST_SIGMA)).clip(logs)
    return Spread(median, max(float(drawn_in.std()), _LEAST_SIGMA))


def cost_at(log_cost: float) -> int:
    """Nano-dollars of a logarithm in thousandths."""
    return round(math.exp(log_cost / 1000))
