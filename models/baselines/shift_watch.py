"""Watches the level of what runs cost for a shift at no known moment: river's Page-Hinkley test over the stored runs.

The test itself is never stored. It is worked out anew from the runs that are kept, from the same beginning and with the
same spread whenever that happens, so that who was restarted finds what who was not does.
"""

import math
from typing import Any, NamedTuple

from models.baselines.cost_level import CostLevel, Spread, spread_of
from models.baselines.page_hinkley import load_page_hinkley


class Watched(NamedTuple):
    """A test on its way."""

    start: int
    """Number of the first run it was given."""
    given: int
    """Number of the next that it will be."""
    scale: int
    """Of how many runs the spread is."""
    spread: Spread
    test: Any
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
        if test.drift_detected:
            alarm = number
    level.memo[rule] = watched._replace(given=level.count, alarm=alarm)
    return alarm


def _page_hinkley(spread: Spread, fewest: int, smallest: float, odds: float) -> Any:
    """A run further than half of `smallest` beyond the mean so far speaks for a shift, by its distance; the threshold
    is where what has been said together makes the shift `odds` times likelier.
    """
    return load_page_hinkley()(
        min_instances=fewest, delta=smallest / 2, threshold=math.log(odds) * spread.sigma**2 / smallest, alpha=1.0
    )
