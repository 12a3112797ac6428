"""Shares of a limit: at which amount each threshold is reached, exactly."""

from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple


class Level(NamedTuple):
    """A threshold and the smallest amount that reaches it."""

    share: float
    amount: int


@lru_cache(maxsize=65_536)
def levels_of(limit: int, thresholds: tuple[float, ...]) -> tuple[Level, ...]:
    """The thresholds of a limit, rising. An amount is rounded up, and at least 1: nothing spent reaches nothing."""
    return tuple(Level(share, max(1, _ceil(limit * Fraction(str(share))))) for share in thresholds)


def reached(levels: tuple[Level, ...], value: int) -> float:
    """The highest share that `value` reaches, 0 for none."""
    return max((level.share for level in levels if value >= level.amount), default=0.0)


def next_amount(levels: tuple[Level, ...], told: float) -> int | None:
    """The amount of the lowest share above `told`, None above the last."""
    return next((level.amount for level in levels if level.share > told), None)


def _ceil(amount: Fraction) -> int:
    return -(-amount.numerator // amount.denominator)
