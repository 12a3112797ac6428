"""Days in UTC, as providers cut them."""

from datetime import UTC, datetime
from typing import Final, NamedTuple

from schemas.duration import DAY_MS

FEWEST_DAYS: Final = 2
"""Providers still change the last 48 hours."""
MOST_DAYS: Final = 31


class Days(NamedTuple):
    """Whole days, from one midnight to another."""

    start_ms: int
    end_ms: int

    @property
    def names(self) -> list[str]:
        """Each day as `2026-11-25`, the oldest first."""
        return [day_of(ms) for ms in range(self.start_ms, self.end_ms, DAY_MS)]


def last_days(count: int, now_ms: int) -> Days:
    """So many days that are over, and today."""
    today_ms = now_ms // DAY_MS * DAY_MS
    return Days(today_ms - count * DAY_MS, today_ms + DAY_MS)


def day_of(ms: int) -> str:
    """The day in which a moment lies."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")


def start_of(day: str) -> int:
    """When a day begins, in epoch milliseconds."""
    return int(datetime.fromisoformat(f"{day}T00:00+00:00").timestamp()) * 1000


def end_of(day: str) -> int:
    """When a day is over, in epoch milliseconds."""
    return start_of(day) + DAY_MS
