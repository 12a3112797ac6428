"""Hours of the day in a time zone, and when they come next. Clocks may be changed in between."""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from schemas.policy import epoch_ms
from schemas.routing import WEEKDAYS, OfficeHours


def next_time_ms(times: Iterable[time], timezone: str, now_ms: int) -> int:
    """When the next of these times of day is; `now_ms` if it is one of them."""
    zone = ZoneInfo(timezone)
    found = (_instant_ms(day, at, zone) for day in _days(now_ms, zone, 2) for at in times)
    return min(at_ms for at_ms in found if at_ms >= now_ms)


def next_opening_ms(hours: OfficeHours, now_ms: int) -> int:
    """`now_ms` within office hours, else when they begin next."""
    zone = ZoneInfo(hours.timezone)
    for day in _days(now_ms, zone, 9):
        if WEEKDAYS[day.weekday()] in hours.weekdays and now_ms < _instant_ms(day, hours.closes, zone):
            return max(_instant_ms(day, hours.opens, zone), now_ms)
    raise AssertionError("office hours name at least one weekday")


def _days(now_ms: int, zone: ZoneInfo, count: int) -> Iterator[date]:
    """Today and the days after it."""
    today = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=now_ms)).astimezone(zone).date()
    return (today + timedelta(days=days) for days in range(count))


def _instant_ms(day: date, at: time, zone: ZoneInfo) -> int:
    """When it is `at` on that day: the first time if clocks are put back, an hour later if they skip it."""
    return epoch_ms(datetime.combine(day, at, zone).astimezone(UTC))
