"""Shares of a limit: at which amount each threshold is reached, exactly."""

from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple


class Level(NamedTuple):
    """A threshold and the smallest amount that reaches it."""

    share: float
    amount: int


FULL: Final = 0.99
"""The level of a count that is used up and not yet exceeded: a warning, and nobody is stopped."""


@lru_cache(maxsize=65_536)
def counts_of(limit: int, thresholds: tuple[float, ...]) -> tuple[Level, ...]:
    """The thresholds of a count, rising. A count is exceeded, not reached: `max_retries = 8` stops the ninth.

    The full allowance is a level of its own wherever exceeding it is one.
    """
    levels = [Level(share, max(1, _ceil(limit * Fraction(str(share))))) for share in thresholds if share < 1]
    beyond = [Level(share, int(limit * Fraction(str(share))) + 1) for share in thresholds if share >= 1]
    full = [Level(FULL, limit)] if beyond and limit > 0 else []
    return (*(level for level in levels if not full or level.amount < limit), *full, *beyond)


@lru_cache(maxsize=65_536)
def levels_of(limit: int, thresholds: tuple[float, ...]) -> tuple[Level, ...]:
    """The thresholds of a limit, rising. An amount is rounded up, and at least 1: nothing spent reaches nothing."""
    return tuple(Level(share, max(1, _ceil(limit * Fraction(str(share))))) for share in thresholds)


def reached(levels: tuple[Level, ...], value: int) -> float:
    """The highest share that `value` reaches, 0 for none."""
    share = 0.0
    for level in levels:
        if value >= level.amount and level.share > share:
            share = level.share
    return share


def next_amount(levels: tuple[Level, ...], value: int) -> int | None:
    """The amount of the lowest level that `value` does not reach yet, None above the last."""
    for level in levels:
        if level.amount > value:
            return level.amount
    return None


def _ceil(amount: Fraction) -> int:
    return -(-amount.numerator // amount.denominator)
