"""Episodes: breaching hours that follow each other closely enough to be one incident."""

from collections.abc import Iterable
from typing import Final

from schemas.duration import DAY_MS, HOUR_MS

Episode = tuple[int, int]
"""Start of the first breaching hour and of the last one."""

GAP_MS: Final = 3 * HOUR_MS
"""From one breaching hour's start to the next of the same episode, at most: two calm hours lie between."""


DAY_GAP_MS: Final = DAY_MS + HOUR_MS
"""The same between days: only days in a row are one episode, the 25 hours of one in autumn included."""


def joined(episode: Episode | None, hour_start_ms: int, gap_ms: int = GAP_MS) -> Episode:
    """The episode that a breaching hour or day belongs to: the given one with it, or a new one.

    A late hour shortly before the first one belongs to it as well, and leaves the start as it is, because the start
    is part of what makes the incident this one.
    """
    if episode is None or not episode[0] - gap_ms <= hour_start_ms <= episode[1] + gap_ms:
        return hour_start_ms, hour_start_ms
    return episode[0], max(episode[1], hour_start_ms)


def beginning_with(first_ms: int, hours_ms: Iterable[int]) -> Episode:
    """The episode whose first hour starts then, of a history's breaching hours in order."""
    last_ms = first_ms
    for hour_ms in hours_ms:
        if last_ms < hour_ms <= last_ms + GAP_MS:
            last_ms = hour_ms
    return first_ms, last_ms


def later(episode: Episode | None, other: Episode) -> Episode:
    """The one with the later last hour, which is the one to go on from."""
    return other if episode is None or other[1] >= episode[1] else episode
