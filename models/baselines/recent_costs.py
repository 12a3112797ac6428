"""What the last finished runs or sessions of a workflow have cost: their exact median, and how much they spread."""

import math
import struct
from array import array
from bisect import bisect_left
from typing import Final

from models.baselines.hourly_history import MAX_NANOUSD
from models.baselines.medians import MAD_TO_SIGMA, deviation
from models.baselines.packing import VERSION, Integers, check_version, unpack_integers

RUNS_KEPT: Final = 256


class RecentCosts:
    """The cost of the last `RUNS_KEPT` finished runs of a workflow, and how much it spreads."""

    __slots__ = ("_in_order", "_log_mad", "_logs", "_sorted")

    def __init__(self) -> None:
        self._in_order = Integers()
        self._sorted = array("Q")
        self._logs = array("d")
        """Their natural logarithms, sorted like them."""
        self._log_mad: float | None = None

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, cost_nanousd: int) -> None:
        """Takes in the cost of one more finished run; the oldest goes when there are more than are kept."""
        if cost_nanousd < 0:
            raise ValueError("a cost must not be negative")
        cost_nanousd = min(cost_nanousd, MAX_NANOUSD)
        if len(self._in_order) == RUNS_KEPT:
            oldest = self._in_order.pop()
            place = bisect_left(self._sorted, oldest)
            del self._sorted[place], self._logs[place]
        self._in_order.append(cost_nanousd)
        place = bisect_left(self._sorted, cost_nanousd)
        self._sorted.insert(place, cost_nanousd)
        self._logs.insert(place, _log(cost_nanousd))
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
            self._log_mad = deviation(self._logs) if self._logs else 0.0
        return self._log_mad

    def multiple(self, base: float, z: float = 3.09) -> float:
        """How many times the median a run may cost before it stands out: at least `base`, more where costs spread.

        Costs of healthy runs are close to log-normal. With a standard deviation of s = 1.5 in the logarithm, 14 % of
        them cost more than 5 times the median, so a fixed multiple would cry wolf. 1.4826 x MAD estimates s and is
        not moved by the outliers sought; exp(z x s) is the multiple that the upper tail of z standard deviations
        exceeds: z = 3.09 is one run in a thousand. Rounded to 4 decimals, so that the last bit of one machine's
        logarithm does not decide.
        """
        return round(max(base, math.exp(z * MAD_TO_SIGMA * self.log_mad())), 4)

    def to_bytes(self) -> bytes:
        """The costs, oldest first, as a row of 1 to 8 bytes each."""
        return struct.pack("<BH", VERSION, len(self)) + self._in_order.packed()

    @classmethod
    def from_bytes(cls, row: bytes) -> "RecentCosts":
        """The costs that `to_bytes` wrote.

        Raises:
            ValueError: the row is of another version, or broken.
        """
        check_version(row)
        costs = cls()
        try:
            _, count = struct.unpack_from("<BH", row)
            in_order, end = unpack_integers(row, struct.calcsize("<BH"), count)
        except (struct.error, KeyError) as error:
            raise ValueError(f"broken row of recent costs: {error}") from error
        if end != len(row) or count > RUNS_KEPT:
            raise ValueError("broken row of recent costs: wrong length")
        costs._in_order = Integers(in_order)
        costs._sorted = array("Q", sorted(in_order))
        costs._logs = array("d", map(_log, costs._sorted))
        return costs


def _log(cost_nanousd: int) -> float:
    return math.log(cost_nanousd or 1)
