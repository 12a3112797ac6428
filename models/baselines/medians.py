"""Medians, and how far values lie from theirs: what the few that lie far out do not move."""

from collections.abc import Iterable, Sequence
from typing import Final

MAD_TO_SIGMA: Final = 1.4826
"""So many median absolute deviations are a standard deviation, of values that are distributed normally."""


def median_x2(values: Sequence[int] | Iterable[int]) -> int:
    """Twice the median, exact.

    Raises:
        ValueError: there are no values.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values, no median")
    return ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]


def middle(ordered: Sequence[float]) -> float:
    """The median of values in rising order. There have to be some."""
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def deviation(ordered: Sequence[float]) -> float:
    """The median absolute deviation from the median, of values in rising order. There have to be some."""
    median, count = middle(ordered), len(ordered)
    return (_nearest(ordered, median, (count - 1) // 2) + _nearest(ordered, median, count // 2)) / 2


def _nearest(ordered: Sequence[float], median: float, rank: int) -> float:
    """How far the value lies from the median that has `rank` others nearer to it.

    It ends the stretch of those nearest to the median, whose beginning is found by halving: nothing need be sorted.
    """
    first, last = 0, len(ordered) - rank - 1
    while first < last:
        start = (first + last) // 2
        if median - ordered[start] > ordered[start + rank + 1] - median:
            first = start + 1
        else:
            last = start
    return max(median - ordered[first], ordered[first + rank] - median)
