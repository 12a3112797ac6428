"""What one tenant spends, hour by hour, as rollups.v1 tells it."""

from collections import defaultdict

from models.calendar import Window
from schemas.duration import DAY_MS, HOUR_MS
from schemas.rollup import Rollup

KEEP_HOURS_MS = 40 * DAY_MS
"""Longer than any month, so that the running one is whole."""
KEEP_TOTALS_MS = 2 * DAY_MS
"""A total that has not been written again for so long never will be: what comes later is booked under another key."""
SWEEP_EVERY = 5_000


class SpendHours:
    """Nano-dollars by hour of the last `KEEP_HOURS_MS`, and by workflow where an hour may still change."""

    def __init__(self) -> None:
        self.last_ms = 0
        """When its newest total stood so, in the tenant's own time."""
        self._hours: defaultdict[int, int] = defaultdict(int)
        self._totals: dict[str, Rollup] = {}
        """Record key -> the last total under it, while it may be written again."""
        self._taken = 0

    def take(self, rollup: Rollup) -> None:
        """Go on with a total that replaces the one before it under its key."""
        before = self._totals.get(rollup.key)
        self._hours[rollup.hour_start_ms] += rollup.cost_nanousd - (before.cost_nanousd if before else 0)
        self._totals[rollup.key] = rollup
        self.last_ms = max(self.last_ms, min(rollup.ts_ms, rollup.hour_end_ms))
        self._taken += 1
        if not self._taken % SWEEP_EVERY:
            self._sweep()

    def spent(self, window: Window) -> int:
        """What was spent in the hours that begin in the window."""
        return sum(cost for start_ms, cost in self._hours.items() if window.start_ms <= start_ms < window.end_ms)

    def by_workflow(self, window: Window) -> dict[str, int]:
        """The same by workflow; of hours that may still change alone."""
        found: defaultdict[str, int] = defaultdict(int)
        for rollup in self._totals.values():
            if window.start_ms <= rollup.hour_start_ms < window.end_ms:
                found[rollup.workflow] += rollup.cost_nanousd
        return found

    def hourly(self, end_ms: int, hours: int) -> list[int]:
        """What each of so many hours before `end_ms` came to, the oldest first."""
        first_ms = end_ms - hours * HOUR_MS
        found = [0] * hours
        for start_ms, cost in self._hours.items():
            if first_ms <= start_ms < end_ms:
                found[(start_ms - first_ms) // HOUR_MS] += cost
        return found

    def _sweep(self) -> None:
        newest_ms = max(rollup.ts_ms for rollup in self._totals.values())
        for key in [key for key, one in self._totals.items() if one.ts_ms < newest_ms - KEEP_TOTALS_MS]:
            del self._totals[key]
        for start_ms in [start_ms for start_ms in self._hours if start_ms < newest_ms - KEEP_HOURS_MS]:
            del self._hours[start_ms]
