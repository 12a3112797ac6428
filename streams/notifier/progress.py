"""Does a process that has work do it? What the watchdog is told."""

from collections.abc import Mapping


class Progress:
    """Compares what there is to do, as the broker counts it, with what was done since the last look."""

    def __init__(self) -> None:
        self._before: tuple[tuple[tuple[int, int], ...], int] | None = None

    def is_made(self, lag: Mapping[int, int], waiting: int, handled: int) -> bool:
        """Whether there is nothing to do, or something was done since the last call.

        `lag` is the number of committed records of each partition that were not fetched, `waiting` what was fetched
        and is not dealt with, `handled` what was dealt with since the start.
        """
        now = tuple(sorted(lag.items())), handled
        moved, self._before = now != self._before, now
        return moved or (waiting == 0 and not any(lag.values()))
