"""When each event of a file counts as appended: at its own time, unless that time is plainly wrong.

A broker refuses a record dated more than a few minutes after its own clock. A file has no clock, only neighbours: a
line that leaps ahead of them, with the lines after it back where it came from, counts as appended when they were, so
that one wrong time makes no other line late.
"""

from array import array
from collections.abc import Sequence
from itertools import pairwise

from models.engine import TOO_LATE_MS
from schemas.duration import DAY_MS, MINUTE_MS
from schemas.usage import END_MS, FIRST_MS

AHEAD_MS = 5 * MINUTE_MS
"""A leap within what a broker accepts moves nobody's time by much, and is left alone."""
LOOK_AHEAD = 64
EDGE_MS = 30 * DAY_MS
EDGE_GAPS = 8
"""The last line has no lines after it, and the first none before. Each is wrong if it stands apart by more than 30 days
and by more than so many times the widest gap between the lines next to it: a monthly log has wide gaps."""
EDGE_LINES = 3
"""With fewer neighbours than this nobody can say what is usual."""


def append_times(times_ms: Sequence[int]) -> "array[int]":
    """The append time of each event of one tenant, given their own times in the order of the file."""
    found = array("q")
    latest_ms = 0
    widest_ms = 0
    for place, ts_ms in enumerate(times_ms):
        if is_plausible(ts_ms) and latest_ms - TOO_LATE_MS <= ts_ms <= latest_ms + AHEAD_MS:
            append_ms = ts_ms
        else:
            append_ms = _judged(times_ms, place, latest_ms, widest_ms)
        if append_ms > latest_ms:
            if latest_ms:
                widest_ms = max(widest_ms, append_ms - latest_ms)
            latest_ms = append_ms
        found.append(append_ms)
    return found


def is_plausible(ts_ms: int) -> bool:
    """Whether a time can be in milliseconds at all."""
    return FIRST_MS <= ts_ms < END_MS


def _judged(times_ms: Sequence[int], place: int, latest_ms: int, widest_ms: int) -> int:
    """The append time of a line that stands apart from those before it, or has none before it."""
    ts_ms = times_ms[place]
    later = _later(times_ms, place)
    if not is_plausible(ts_ms):
        return latest_ms or (_typical(later) if later else 0)
    if latest_ms and ts_ms < latest_ms:
        return latest_ms  # too late to move anything: its neighbours' time decides how late
    if _comes_back(ts_ms, latest_ms, later):
        return latest_ms or _typical(later)
    if not latest_ms:
        return min(later) if _is_far_behind(ts_ms, later) else ts_ms
    is_last = not later and place >= EDGE_LINES
    return latest_ms if is_last and ts_ms - latest_ms > max(EDGE_MS, EDGE_GAPS * widest_ms) else ts_ms


def _later(times_ms: Sequence[int], place: int) -> list[int]:
    """The plausible ones of the next times."""
    return [one for one in times_ms[place + 1 : place + 1 + LOOK_AHEAD] if is_plausible(one)]


def _comes_back(ts_ms: int, latest_ms: int, later: list[int]) -> bool:
    """Whether more lines after this one go on from before the leap than stay with it.

    Those that stay count only as far as the last that goes on from before: time catches up with every leap. As many of
    one kind as of the other are one line ahead or one line late; late ones are common, and do no harm within a day.
    """
    leap_ms = ts_ms - latest_ms
    if latest_ms:
        before = [place for place, one in enumerate(later) if 2 * abs(one - latest_ms) < leap_ms]
    else:
        before = [place for place, one in enumerate(later) if one < ts_ms - AHEAD_MS]
    if not before:
        return False
    ahead = before[-1] + 2 - len(before)
    is_ahead = leap_ms > TOO_LATE_MS if latest_ms else len(before) == len(later)
    return len(before) > ahead or (is_ahead and len(before) == ahead)


def _typical(later: list[int]) -> int:
    """The time of the first of these lines that does not stand apart from the others itself."""
    middle_ms = sorted(later)[len(later) // 2]
    return next(one for one in later if one <= middle_ms)


def _is_far_behind(ts_ms: int, later: list[int]) -> bool:
    if len(later) < EDGE_LINES:
        return False
    ordered = sorted(later)
    widest_ms = max(after - before for before, after in pairwise(ordered))
    return ordered[0] - ts_ms > max(EDGE_MS, EDGE_GAPS * widest_ms)
