"""Several figures of each of the last finished runs of a kind, and what is usual of each figure."""

import math
import struct
from typing import Final

from models.baselines.medians import MAD_TO_SIGMA, deviation, median_x2
from models.baselines.packing import VERSION, Integers, check_version, unpack_integers

FIGURES_KEPT: Final = 64
MOST_FIGURE: Final = (1 << 62) - 1

Figures = tuple[int, ...]


class RecentFigures:
    """Rows of `width` whole numbers each, the last `FIGURES_KEPT` of them."""

    __slots__ = ("_columns", "_usual")

    def __init__(self, width: int) -> None:
        self._columns = [Integers() for _ in range(width)]
        self._usual: dict[int, tuple[int, float]] = {}

    def __len__(self) -> int:
        return len(self._columns[0])

    def add(self, figures: Figures) -> None:
        """Take in the figures of one more run; the oldest go when there are more than are kept."""
        if len(figures) != len(self._columns) or min(figures) < 0:
            raise ValueError(f"{len(self._columns)} figures, none negative, are kept of a run")
        is_full = len(self) == FIGURES_KEPT
        for column, figure in zip(self._columns, figures, strict=True):
            if is_full:
                column.pop()
            column.append(min(figure, MOST_FIGURE))
        self._usual.clear()

    def median(self, place: int) -> int:
        """The median of the figure at `place`, rounded down. Raises `ValueError` while nothing is known."""
        return self._known(place)[0]

    def multiple(self, place: int, base: float, z: float = 3.09) -> float:
        """How many times the median a figure may be before it stands out: at least `base`, more where figures spread.

        As `RecentCosts.multiple`: z = 3.09 is one run in a thousand, were they log-normal.
        """
        return round(max(base, math.exp(z * MAD_TO_SIGMA * self._known(place)[1])), 4)

    def to_bytes(self) -> bytes:
        """The figures, one column after the other, oldest first, as a row of 1 to 8 bytes each."""
        head = struct.pack("<BHB", VERSION, len(self), len(self._columns))
        return head + b"".join([column.packed() for column in self._columns])

    @classmethod
    def from_bytes(cls, row: bytes) -> "RecentFigures":
        """The figures that `to_bytes` wrote.

        Raises:
            ValueError: the row is of another version, or broken.
        """
        check_version(row)
        try:
            _, count, width = struct.unpack_from("<BHB", row)
            place = struct.calcsize("<BHB")
            columns = []
            for _ in range(width):
                column, place = unpack_integers(row, place, count)
                columns.append(column)
        except (struct.error, KeyError) as error:
            raise ValueError(f"broken row of recent figures: {error}") from error
        if place != len(row) or count > FIGURES_KEPT:
            raise ValueError("broken row of recent figures: wrong length")
        figures = cls(width)
        figures._columns = [Integers(column) for column in columns]
        return figures

    def _known(self, place: int) -> tuple[int, float]:
        """Median, and median absolute deviation of the natural logarithm, of one figure."""
        known = self._usual.get(place)
        if known is None:
            if not len(self):
                raise ValueError("no figures, no median")
            ordered = sorted(self._columns[place].values)
            logs = [math.log(figure or 1) for figure in ordered]
            known = self._usual[place] = (median_x2(ordered) // 2, deviation(logs))
        return known
