"""The only reader of time."""

import sys
import time


def wall_ms() -> int:
    """Now, for display, expiry and what a restart must compare with; may jump."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """For measuring how long something takes; never jumps. It may stand still while the machine sleeps."""
    return time.monotonic_ns() // 1_000_000


def sleepless_ms() -> int:
    """Like `monotonic_ms`, but goes on while the machine sleeps, where the system has such a clock. For what others
    have done meanwhile: a suspended machine's group has given its partitions to somebody else.
    """
    return time.monotonic_ns() // 1_000_000 if _SLEEPLESS is None else time.clock_gettime_ns(_SLEEPLESS) // 1_000_000


_SLEEPLESS: int | None = getattr(time, "CLOCK_MONOTONIC" if sys.platform == "darwin" else "CLOCK_BOOTTIME", None)
"""Linux's monotonic clock stands still in sleep; macOS's goes on, though not the one that Python calls monotonic."""


def seconds() -> float:
    """For measuring steps; never jumps."""
    return time.perf_counter()


def pause(length_s: float) -> None:
    """Do nothing for a while."""
    time.sleep(length_s)


class BrokerClock:
    """The brokers' time, carried forward by a clock that nobody sets since one of them told it.

    Until then it is the host's, which nothing must be decided by: see `is_known`.
    """

    def __init__(self) -> None:
        self._from_ours_ms: int | None = None

    def heard(self, broker_ms: int) -> None:
        """A broker has just said what time it is."""
        self._from_ours_ms = broker_ms - sleepless_ms()

    @property
    def is_known(self) -> bool:
        """Whether a broker has told its time."""
        return self._from_ours_ms is not None

    def now_ms(self) -> int:
        """What time it is."""
        return wall_ms() if self._from_ours_ms is None else sleepless_ms() + self._from_ours_ms

    @property
    def host_ahead_ms(self) -> int:
        """How far this host's clock is ahead of the brokers', negative where it is behind; 0 while nobody knows."""
        return wall_ms() - self.now_ms() if self.is_known else 0


class PartitionClock:
    """A partition's time goes on from its last record at the pace of the worker's monotonic clock.

    So a replayed log keeps its own time, and a worker whose wall clock jumps closes no window early. `SLACK_MS` is for
    records under way: a tick must not pass a message that is appended already and not yet read.

    Args:
        time_ms: what it showed when it was last kept.
        kept_ms: when that was, by the brokers' clock.
    """

    SLACK_MS = 2000

    def __init__(self, time_ms: int = 0, kept_ms: int = 0) -> None:
        self._last_ms = time_ms
        self._since_ms = monotonic_ms()
        self._at_end = False
        self._has_moved = False
        self._left = (time_ms, kept_ms) if kept_ms else None
        """What was given, until a record is read that came after the clock was taken over; None for a new one."""
        self._carried: tuple[int, int] | None = None
        """What it would show had somebody kept it all the time, and at which monotonic time."""

    def record(self, append_ms: int) -> None:
        """A record was read."""
        if self._at_end:
            self._left = self._carried = None
        self._last_ms = append_ms
        self._has_moved = True
        self._at_end = False

    def end_reached(self) -> None:
        """Everything appended so far has been read."""
        if self._has_moved and not self._at_end:
            self._since_ms = monotonic_ms()
        self._at_end = True

    def carry(self, broker_ms: int) -> None:
        """A broker has said what time it is now, so that it is known for how long nobody kept this clock. It never
        passes the broker's for that: whoever kept it may have known the time less well.
        """
        if self._left is not None:
            time_ms, kept_ms = self._left
            carried_ms = min(time_ms + max(0, broker_ms - kept_ms), max(broker_ms, time_ms))
            self._carried = carried_ms, monotonic_ms()

    @property
    def time_ms(self) -> int:
        """The partition's time: while there is more to read that of the last record."""
        if not self._at_end:
            return self._last_ms
        return max(self._last_ms + monotonic_ms() - self._since_ms, self._carried_now_ms)

    @property
    def kept_ms(self) -> int:
        """What somebody else has to go on from: with more to read, what was carried so far is not to be lost."""
        return max(self.time_ms, self._carried_now_ms)

    def now_ms(self) -> int:
        """The partition's time, as far as it is safe to act on."""
        return self.time_ms - self.SLACK_MS

    @property
    def _carried_now_ms(self) -> int:
        if self._carried is None:
            return 0
        carried_ms, at_ms = self._carried
        return carried_ms + monotonic_ms() - at_ms
