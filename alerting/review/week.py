"""Calendar weeks of a time zone, and when the review of one is due.

A week is named as in ISO 8601 (`2026-W47`) and starts on Monday. In most zones two weeks of a year are an hour longer
or shorter than the others.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from schemas.duration import DAY_MS
from schemas.policy import epoch_ms
from schemas.routing import WEEKDAYS, WeeklyReview

DAYS = 7

_LABEL = re.compile(r"(\d{4})-W(\d{2})")
_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Week:
    """From one Monday's first instant to before the next one's."""

    label: str
    timezone: str
    days_ms: tuple[int, ...]
    """Where each of the seven days starts, and where the last one ends."""

    @property
    def start_ms(self) -> int:
        """Its first instant."""
        return self.days_ms[0]

    @property
    def end_ms(self) -> int:
        """The first instant past it."""
        return self.days_ms[-1]

    def day_of(self, at_ms: int) -> int:
        """The number of the day, from 0 for Monday, that an instant of the week lies in."""
        return min(max(bisect_right(self.days_ms, at_ms) - 1, 0), DAYS - 1)

    def hour_of_day(self, at_ms: int) -> int:
        """What the zone's clocks show, from 0 to 23. The hour that autumn repeats is shown twice."""
        return _local(at_ms, self.timezone).hour


def week_of(timezone: str, at_ms: int) -> Week:
    """The week of an instant. `timezone` is a name such as `Europe/Berlin`.

    Raises:
        ValueError: a time the calendar does not have, such as one in the year 10000.
    """
    try:
        day = _local(at_ms, timezone).date()
        return _starting(day - day.weekday() * _ONE_DAY, timezone)
    except OverflowError:
        raise ValueError(f"{at_ms} ms since 1970 is beyond the calendar") from None


def week_named(label: str, timezone: str) -> Week:
    """The week of a name such as `2026-W47`.

    Raises:
        ValueError: there is no such week.
    """
    found = _LABEL.fullmatch(label)
    if found is None:
        raise ValueError(f"{label!r} is no week; write it as 2026-W47")
    try:
        return _starting(date.fromisocalendar(int(found[1]), int(found[2]), 1), timezone)
    except (ValueError, OverflowError):
        raise ValueError(f"there is no week {label}; a year has 52 or 53") from None


def week_before(week: Week) -> Week:
    """The week that ends where this one starts."""
    return week_of(week.timezone, week.start_ms - 1)


def last_full_week(timezone: str, now_ms: int) -> Week:
    """The newest week that is over."""
    return week_before(week_of(timezone, now_ms))


def next_review_ms(review: WeeklyReview, timezone: str, now_ms: int) -> int:
    """The first instant after now at which a review is due; what is due then is the last full week's.

    `timezone` is the policy's, for a review that names none. A time that spring skips is due when the clocks go on.
    """
    zone = review.timezone or timezone
    day = _local(now_ms, zone).date()
    ahead = (WEEKDAYS.index(review.weekday) - day.weekday()) % DAYS
    for weeks in (0, 1):
        due_ms = _instant(day + (ahead + weeks * DAYS) * _ONE_DAY, zone, review.time_of_day)
        if due_ms > now_ms:
            return due_ms
    raise AssertionError("a weekday comes again within eight days")


def last_review_ms(review: WeeklyReview, timezone: str, now_ms: int) -> int:
    """The newest instant, up to now, at which a review was due."""
    due_ms = next_review_ms(review, timezone, now_ms - (DAYS + 1) * DAY_MS)
    while (later_ms := next_review_ms(review, timezone, due_ms)) <= now_ms:
        due_ms = later_ms
    return due_ms


def _starting(monday: date, timezone: str) -> Week:
    year, number, _ = monday.isocalendar()
    days = tuple(_instant(monday + ahead * _ONE_DAY, timezone) for ahead in range(DAYS + 1))
    return Week(f"{year}-W{number:02}", timezone, days)


def _instant(day: date, timezone: str, at: time = time.min) -> int:
    return epoch_ms(datetime.combine(day, at, ZoneInfo(timezone)))


def _local(at_ms: int, timezone: str) -> datetime:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).astimezone(ZoneInfo(timezone))
