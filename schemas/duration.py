"""How long a minute, an hour and a day are; and durations for people, in the two largest units that matter."""

from typing import Final

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

UNITS_MS: Final = {"s": 1_000, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS, "w": 7 * DAY_MS}
"""Unit, as people write it behind a number (`90m`) -> how long it is."""
_SHOWN_MS: Final = (("d", DAY_MS), ("h", HOUR_MS), ("min", MINUTE_MS), ("s", 1_000))


def format_duration(ms: int) -> str:
    """A duration in milliseconds: tenths of a second below ten seconds, else its two largest units.

    >>> [format_duration(ms) for ms in (16, 1_240, 43_900, 2_220_000, 6_030_000, 180_000_000)]
    ['16 ms', '1.2 s', '43 s', '37 min', '1 h 40 min', '2 d 2 h']
    """
    if ms < 0:
        return f"-{format_duration(-ms)}"
    if ms < 1_000:
        return f"{ms} ms"
    if ms < 10_000:
        return f"{ms // 100 / 10:g} s"
    parts: list[tuple[int, str]] = []
    rest = ms
    for unit, size in _SHOWN_MS:
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append((count, unit))
    return " ".join(f"{count:,} {unit}" for count, unit in parts[:2] if count)
