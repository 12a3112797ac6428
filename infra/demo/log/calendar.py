"""The demo's eight days: which hours a tenant works in, and how much of its usual hour each of them spends."""

from collections.abc import Iterator
from datetime import UTC, datetime

from schemas.duration import DAY_MS, HOUR_MS

HISTORY_DAYS = 7

HISTORY_START_MS = int(datetime(2026, 11, 11, tzinfo=UTC).timestamp()) * 1_000
"""A Wednesday, so that the weekend lies in the history and today is a Wednesday too."""
TODAY_MS = HISTORY_START_MS + HISTORY_DAYS * DAY_MS
END_MS = TODAY_MS + 18 * HOUR_MS

OFFICE = {9: 0.8, 10: 1.0, 11: 1.1, 12: 0.8, 13: 0.9, 14: 1.1, 15: 1.1, 16: 1.0, 17: 0.8}
"""Hour of the day -> share of the usual hour, for tenants whose people start the runs."""
ROUND_THE_CLOCK = {hour: share / 10 for hour, share in enumerate([5, 4, 4, 4, 4, 5, 6, 8, *[10] * 12, 9, 8, 7, 6])}
"""The same for a service with customers everywhere."""


def active_hours(shape: dict[int, float], weekend_share: float) -> Iterator[tuple[int, float]]:
    """(start of the hour, its share of the usual hour) from the history's first day until the log ends."""
    for day_ms in range(HISTORY_START_MS, END_MS, DAY_MS):
        weekend = datetime.fromtimestamp(day_ms / 1_000, UTC).weekday() >= 5
        factor = weekend_share if weekend else 1.0
        for hour, share in sorted(shape.items()):
            start = day_ms + hour * HOUR_MS
            if factor and start < END_MS:
                yield start, share * factor


def today_at(hour: int) -> int:
    """Start of an hour of the last day."""
    return TODAY_MS + hour * HOUR_MS
