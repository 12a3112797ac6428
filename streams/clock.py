"""The only reader of time."""

import time


def wall_ms() -> int:
    """Now, for display, expiry and what a restart must compare with; may jump."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """For measuring how long something takes; never jumps."""
    return time.monotonic_ns() // 1_000_000


def seconds() -> float:
    """For measuring steps; never jumps."""
    return time.perf_counter()


def pause(length_s: float) -> None:
    """Do nothing for a while."""
    time.sleep(length_s)


class PartitionClock:
    """A partition's time goes on from its last record at the pace of the worker's monotonic clock.

    So a replayed log keeps its own time, and a worker whose wall clock jumps closes no window early. `SLACK_MS` is for
    records under way: a tick must not pass a message that is appended already and not yet read.
    """

    SLACK_MS = 2000

    def __init__(self, last_ms: int, away_ms: int = 0) -> None:
        """`away_ms` is how long nobody kept this clock, as far as a wall clock can tell."""
        self.last_ms = last_ms
        self._since_ms = monotonic_ms() - max(0, away_ms)
        self._has_moved = False
        self._at_end = False

    def record(self, append_ms: int) -> None:
        """A record was read."""
        self.last_ms = append_ms
        self._has_moved = True
        self._at_end = False

    def end_reached(self) -> None:
        """Everything appended so far has been read."""
        if self._has_moved and not self._at_end:
            self._since_ms = monotonic_ms()
        self._at_end = True

    def now_ms(self) -> int:
        """The partition's time, as far as it is safe to act on."""
        elapsed_ms = monotonic_ms() - self._since_ms if self._at_end else 0
        return self.last_ms + elapsed_ms - self.SLACK_MS
