"""The time on the gateway's records: this host's, and where the brokers refuse that as too far ahead, an earlier one.

Kafka tells no client its time, but refuses what is further ahead of it than the topic allows. With a host's clock that
is ahead, or a broker's that was set back, all usage would go to the disk for as long as that is so, and nobody would be
stopped.
"""

import logging
import threading
from typing import Final

from streams.clock import monotonic_ms, wall_ms
from streams.process.logs import fields

log = logging.getLogger("spendfuse.delivery")

STEP_MS: Final = 5 * 60_000
"""What `usage.v1` allows to be ahead: an earlier stamp is never too early by more."""
MOST_STEPS: Final = 2 * 24 * 12
"""Two days. What is refused beyond goes to the disk."""
KEPT_MS: Final = 10 * 60_000
"""Then the host's time is tried again: one of the two clocks may have been set right."""


class Stamps:
    """Which time records carry. Any thread may ask."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._steps = 0
        self._since_ms = 0

    def steps(self) -> int:
        """By how many steps records that are written now go back behind this host's clock."""
        with self._changing:
            if self._steps and monotonic_ms() >= self._since_ms + KEPT_MS:
                self._steps = 0
            return self._steps

    def refused(self, steps: int) -> bool:
        """A record that went back so far was still too far ahead. Returns whether going back further may help."""
        with self._changing:
            if steps < self._steps:
                return True  # another has found out already
            if steps >= MOST_STEPS:
                return False
            self._steps, self._since_ms = steps + 1, monotonic_ms()
        if steps == 0:
            log.warning(
                "the brokers refuse this host's time as too far ahead; records carry an earlier one: set the clock",
                extra=fields(host_ms=wall_ms()),
            )
        return True


def stamp_ms(steps: int) -> int:
    """The time of a record that goes back by so many steps."""
    return wall_ms() - steps * STEP_MS
