"""What is known of the broker's clock, and the record timestamps that follow from it.

Kafka tells no client its time. It refuses a record that is further ahead of its clock than the topic allows, and that
is evidence: what was refused was too far ahead, what was accepted was not. So a machine whose clock is right sends as
ever, and one whose clock is ahead finds out by how much in some ten records, sent one at a time: first it goes back by
doubling steps, then it halves the distance between the last refusal and the first acceptance. The few that are
accepted meanwhile are stamped too early, by less than the clock is ahead.
"""

import time
from dataclasses import dataclass

from spendfuse._client import clock
from spendfuse._client.logging import LOG

ALLOWED_AHEAD_MS = 300_000
"""`message.timestamp.after.max.ms` of `usage.v1`."""
FIRST_STEP_MS = 300_000
KNOWN_TO_MS = 60_000
"""Between a refusal and an acceptance: near enough."""
MOST_AHEAD_MS = 20 * 365 * 86_400_000
"""Beyond this it is no clock that the broker objects to."""
JUMP_MS = 60_000
"""By which a clock was set, and has not drifted."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """A record's timestamp, and how far it is behind the clock of this machine."""

    ms: int
    behind_ms: int


class BrokerTime:
    """Stamps records no later than the broker's clock, as far as that is known. One thread uses it."""

    def __init__(self) -> None:
        self._ahead_ms = 0
        """By how much records go back behind this machine's clock."""
        self._refused_ms: int | None = None
        self._accepted_ms: int | None = None
        """How far behind records were that the broker refused and accepted; both None when there is no question."""
        self._offset_ms = _wall_less_monotonic_ms()

    @property
    def is_searching(self) -> bool:
        """Whether the broker's answer to the next record is waited for before another is sent."""
        return self._refused_ms is not None

    def stamp(self, ts_ms: int) -> Stamp:
        """Return the timestamp of a record that is sent now, for an event that happened at `ts_ms`."""
        if abs(_wall_less_monotonic_ms() - self._offset_ms) > JUMP_MS:
            self._forget()
        now_ms = clock.wall_clock_ms()
        stamp_ms = min(ts_ms, now_ms - self._ahead_ms)
        return Stamp(stamp_ms, now_ms - stamp_ms)

    def refused(self, behind_ms: int) -> bool:
        """Take in that a record so far behind this machine's clock was still too far ahead of the broker's.

        Return whether an earlier timestamp may help: not on a topic that refuses what is long past.
        """
        if behind_ms > MOST_AHEAD_MS:
            self._forget()
            return False
        self._refused_ms = max(behind_ms, self._refused_ms or 0)
        if self._accepted_ms is not None and self._accepted_ms <= self._refused_ms:
            self._accepted_ms = None
        self._narrow()
        return True

    def accepted(self, behind_ms: int) -> None:
        """Take in that a record so far behind this machine's clock was not too far ahead of the broker's."""
        if self._refused_ms is None or behind_ms <= self._refused_ms:
            return
        self._accepted_ms = min(behind_ms, self._accepted_ms or behind_ms)
        self._narrow()

    def _narrow(self) -> None:
        assert self._refused_ms is not None
        if self._accepted_ms is None:
            self._ahead_ms = max(FIRST_STEP_MS, 2 * self._refused_ms)
            return
        self._ahead_ms = (self._refused_ms + self._accepted_ms) // 2
        if self._accepted_ms - self._refused_ms <= KNOWN_TO_MS:
            self._ahead_ms += ALLOWED_AHEAD_MS
            self._refused_ms = self._accepted_ms = None
            LOG.warning(
                "this machine's clock is about %d minutes ahead of the broker's: records carry the broker's time now, "
                "their events still this machine's; set the clock",
                round(self._ahead_ms / 60_000),
            )

    def _forget(self) -> None:
        """One of the clocks was set, or the machine slept: what was found out holds no more."""
        self._offset_ms = _wall_less_monotonic_ms()
        self._ahead_ms = 0
        self._refused_ms = self._accepted_ms = None


def _wall_less_monotonic_ms() -> int:
    return clock.wall_clock_ms() - time.monotonic_ns() // 1_000_000
