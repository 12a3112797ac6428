"""Watches the level of what runs cost for a shift at no known moment: the Page-Hinkley test over the stored runs.

The test itself is never stored. It is worked out anew from the runs that are kept, from the same beginning and with the
same spread whenever that happens, so that who was restarted finds what who was not does.
"""

import math
from typing import NamedTuple

from models.baselines.cost_level import CostLevel, Spread, spread_of


class PageHinkley:
    """Page's test for a shift of the mean, up or down (E. S. Page, Continuous inspection schemes, Biometrika 41, 1954).

    To the bit what river's `drift.PageHinkley` finds without forgetting. To load river, and scipy with it, takes a
    worker longer than everything else that it loads.

    Args:
        fewest: values before the first shift can be found.
        delta: a value further than this from the mean so far speaks for a shift, by what is beyond it.
        threshold: a shift is found when what has been said for it together is more.
    """

    def __init__(self, fewest: int, delta: float, threshold: float) -> None:
        self._fewest = fewest
        self._delta = delta
        self._threshold = threshold
        self._begin()

    def _begin(self) -> None:
        self.has_shifted = False
        """Whether the latest value was the one with which a shift was found. The next begins anew."""
        self._count = 0
        self._mean = 0.0
        self._up = self._down = 0.0
        self._lowest_up = math.inf
        self._highest_down = -1.0

    def update(self, value: float) -> None:
        """Take in the next value."""
        if self.has_shifted:
            self._begin()
        self._count += 1
        self._mean += (1.0 / self._count) * (value - self._mean)
        beyond = value - self._mean
        self._up = self._up + beyond - self._delta
        self._down = self._down + beyond + self._delta
        self._lowest_up = min(self._lowest_up, self._up)
        self._highest_down = max(self._highest_down, self._down)
        if self._count >= self._fewest:
            furthest = max(self._up - self._lowest_up, self._highest_down - self._down)
            self.has_shifted = furthest > self._threshold


class Watched(NamedTuple):
    """A test on its way."""

    start: int
    """Number of the first run it was given."""
    given: int
    """Number of the next that it will be."""
    scale: int
    """Of how many runs the spread is."""
    spread: Spread
    test: PageHinkley
    alarm: int
    """Number of the run after the last with which it found a shift, 0 for none yet."""


def last_alarm(level: CostLevel, rule: str, start: int, fewest: int, smallest: float, odds: float) -> int:
    """Number of the run after the last with which the test found that the level had shifted since run `start`, up or
    down; 0 for never. After each it begins anew.

    `fewest` runs are asked for. `smallest` is the shift worth finding, in thousandths of the logarithm, and `odds` how
    much likelier the runs must be with such a shift than without.
    """
    start = max(start, level.first)
    runs = level.count - start
    if runs < fewest:
        return 0
    scale = fewest << int(math.log2(runs // fewest))
    watched = level.memo.get(rule)
    if not isinstance(watched, Watched) or (watched.start, watched.scale) != (start, scale):
        spread = spread_of(level.logs(start, start + scale))
        watched = Watched(start, start, scale, spread, _page_hinkley(spread, fewest, smallest, odds), 0)
    alarm, test = watched.alarm, watched.test
    median, reach = watched.spread.median, watched.spread.reach
    for number, log_cost in enumerate(level.since(watched.given), watched.given + 1):
        test.update(max(-reach, min(reach, log_cost - median)))
        if test.has_shifted:
            alarm = number
    level.memo[rule] = watched._replace(given=level.count, alarm=alarm)
    return alarm


def _page_hinkley(spread: Spread, fewest: int, smallest: float, odds: float) -> PageHinkley:
    """A run further than half of `smallest` beyond the mean so far speaks for a shift, by its distance; the threshold
    is where what has been said together makes the shift `odds` times likelier.
    """
    return PageHinkley(fewest, smallest / 2, math.log(odds) * spread.sigma**2 / smallest)
