"""The wall clock, and a caller's own clock in its place, which must not break the agent."""

import sys
import time
from collections.abc import Callable

from spendfuse._client.logging import RareWarning

FIRST_MS = 10**12
"""2001-09-09: what is earlier counts seconds."""
END_MS = 7_258_118_400_000
"""2200-01-01: what is later counts microseconds or nanoseconds."""

Clock = Callable[[], int]


def wall_clock_ms() -> int:
    """Return the system's time in epoch milliseconds."""
    return time.time_ns() // 1_000_000


_SLEEPLESS = getattr(time, "CLOCK_MONOTONIC" if sys.platform == "darwin" else "CLOCK_BOOTTIME", None)
"""A clock that goes on while the machine sleeps, as `time.monotonic` does on Windows alone."""


def slept_s() -> float:
    """Return how long the machine has slept, as far as `time.monotonic` did not count it. Only differences matter."""
    return 0.0 if _SLEEPLESS is None else time.clock_gettime(_SLEEPLESS) - time.monotonic()


def dependable(clock_ms: Clock | None) -> Clock:
    """Return a clock that never raises: where `clock_ms` fails or gives no epoch milliseconds, it is the system's."""
    if clock_ms is None:
        return wall_clock_ms
    warning = RareWarning("clock_ms was of no use %d times, the system's clock is used: %s")

    def now_ms() -> int:
        try:
            at_ms = int(clock_ms())
        except Exception as error:
            warning.happened(f"{type(error).__name__}: {error}")
            return wall_clock_ms()
        if FIRST_MS <= at_ms < END_MS:
            return at_ms
        warning.happened(f"{at_ms} is no time in epoch milliseconds")
        return wall_clock_ms()

    return now_ms
