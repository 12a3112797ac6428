"""Amounts, shares and times as people read them."""

import math
from datetime import UTC, datetime, time, timedelta

from alerting.rendering.foreign import clean
from schemas.duration import format_duration
from schemas.money import format_usd

BAR_CELLS = 20
UNKNOWN_TIME = "an impossible time"

_LARGEST_SHOWN = 10**21
_LARGEST_SHARE = 99.99
_BARE_UNITS = ("", "count")


def amount(value: float, unit: str) -> str:
    """A quantity for people: dollars where `unit` is `nanousd`, a duration where it is `ms`, else with its unit.

    >>> [amount(41_000_000_000, "nanousd"), amount(90_000, "ms"), amount(12_345, "calls"), amount(0.0123456, "")]
    ['$41.00', '1 min 30 s', '12,345 calls', '0.01235']
    """
    if abs(value) >= _LARGEST_SHOWN or math.isnan(value):
        return "beyond measure"
    if unit == "nanousd":
        return format_usd(int(value))
    if unit == "ms":
        return format_duration(int(value))
    number = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
    if unit in _BARE_UNITS:
        return number
    return f"{number} {clean(unit.removesuffix('s') if value == 1 else unit, 40)}".rstrip()


def part_of(value: float, whole: float, unit: str) -> str:
    """A quantity against another of the same unit, which is named once.

    >>> [part_of(12_400_000_000, 10_000_000_000, "nanousd"), part_of(3, 5, "calls")]
    ['$12.40 of $10.00', '3 of 5 calls']
    """
    named_once = unit not in ("nanousd", "ms")
    return f"{amount(value, '' if named_once else unit)} of {amount(whole, unit)}"


def share(value: float, whole: float) -> float:
    """The one as a share of the other, kept within what can be drawn; 1 where it cannot be told."""
    if whole <= 0 or any(abs(one) >= _LARGEST_SHOWN or math.isnan(one) for one in (value, whole)):
        return 1.0
    return max(0.0, min(value / whole, _LARGEST_SHARE))


def percent(part: float) -> str:
    """A share in whole percent, rounded down: what is shown as 100% has been reached.

    >>> [percent(0.5039), percent(0.999), percent(1.24)]
    ['50%', '99%', '124%']
    """
    return f"{math.floor(100 * part + 1e-9):,}%"


def bar(part: float) -> str:
    """A share of one as a bar, full from one on and not before.

    >>> bar(0.82)
    '████████████████░░░░'
    """
    filled = BAR_CELLS if part >= 1 else min(BAR_CELLS - 1, round(BAR_CELLS * max(0.0, part)))
    return "█" * filled + "░" * (BAR_CELLS - filled)


def clock(ts_ms: int) -> str:
    """A moment, in UTC.

    >>> clock(1_795_012_717_766)
    'Wed 18 Nov 2026, 14:38:37 UTC'
    """
    at = _at(ts_ms)
    return f"{_day(at)} {at.year}, {time_of_day(ts_ms)}" if at else UNKNOWN_TIME


def time_of_day(ts_ms: int) -> str:
    """The time of a moment whose day is known, in UTC."""
    at = _at(ts_ms)
    return f"{at:%H:%M:%S} UTC" if at else UNKNOWN_TIME


def span(start_ms: int, end_ms: int) -> str:
    """From one moment to another, in UTC, with the day named once where it is the same.

    >>> [span(1_795_010_400_000, 1_795_014_000_000), span(1_794_960_000_000, 1_795_046_400_000)]
    ['Wed 18 Nov, 14:00 to 15:00 UTC', 'Wed 18 Nov, all day UTC']
    """
    start, end = _at(start_ms), _at(end_ms)
    if start is None or end is None:
        return UNKNOWN_TIME
    if end - start == timedelta(days=1) and start.time() == time.min:
        return f"{_day(start)}, all day UTC"
    until = f"{end:%H:%M}" if start.date() == end.date() else f"{_day(end)}, {end:%H:%M}"
    return f"{_day(start)}, {start:%H:%M} to {until} UTC"


def timestamp(ts_ms: int) -> str | None:
    """A time as machines want it (RFC 3339); None if it is beyond their calendar."""
    at = _at(ts_ms)
    return at.isoformat(timespec="milliseconds") if at else None


def _day(at: datetime) -> str:
    return f"{at:%a} {at.day} {at:%b}"


def _at(ts_ms: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(ts_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
