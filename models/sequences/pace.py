"""Whether calls that recur are looks at something that takes its time, told by the distances between them.

A model in a loop comes back as fast as it thinks: after some seconds, now sooner and now later. Who waits has set a
pace. Distances are in tenths of a second, the newest first.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

PACE: Final = 100
"""Between two looks at something that is waited for; closer together is no waiting."""
_LONG: Final = 300
"""Longer than a model thinks: from here on a pace may be anything but even."""
_EVEN: Final = 1.25
"""Ratio up to which distances count as even."""
_LONG_EVEN: Final = 2
"""The same of long ones, which hold what came between as well: a model's answer, a queue, chance added on purpose."""
_STEADY: Final = 4
"""So many even distances are a pace, whatever was before: a back-off has come to its longest pause."""
_RISING: Final = 1.2
"""Ratio from which on a distance is longer than the one before, and not by chance."""
_LONG_RISE: Final = 5
"""So many distances, each longer than the one before, are no chance, however little they grow."""
_DOUBLING: Final = 1.5
"""The same where two such steps are all that shows it: usual back-offs double."""
_LEAST_RISES: Final = 2
_LEAST_BACK_OFF: Final = 30
"""What the longest distance of a back-off is at least: shorter ones grow by chance."""


def are_paced(distances: Sequence[int]) -> bool:
    """Whether somebody looks again after a pause: at even distances of ten seconds and more, at about even ones of half
    a minute and more, at clearly rising ones, or by a back-off.
    """
    steady = distances[:_STEADY]
    shortest, longest = min(steady), max(steady)
    if longest <= _EVEN * shortest and shortest >= PACE:
        return True
    if longest <= _LONG_EVEN * shortest and shortest >= _LONG:
        return True
    least = _RISING if len(distances) < _LONG_RISE else 1
    rising = all(later > earlier and later >= least * earlier for later, earlier in pairwise(distances))
    return (rising and min(distances) >= PACE) or backs_off(distances)


def backs_off(distances: Sequence[int]) -> bool:
    """Whether the distances grow like those of somebody who waits longer each time, up to a longest pause of ten
    seconds or more that is kept from then on: each is half as long again as the one before, two of them at least.
    """
    longest = max(distances, default=0)
    if longest < _LEAST_BACK_OFF:
        return False
    steps = list(pairwise(distances))
    if sum(later >= _DOUBLING * earlier for later, earlier in steps) < _LEAST_RISES:
        return False
    return all(
        later >= _DOUBLING * earlier
        or (_EVEN * later >= longest >= PACE and (_EVEN * earlier >= longest or later >= _RISING * earlier))
        for later, earlier in steps
    )
