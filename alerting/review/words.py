"""How the review says amounts, changes and days: the same in the message and on the page."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from alerting.rendering.foreign import clean
from alerting.review.facts import Incidents, Review
from alerting.review.week import Week
from schemas.money import format_usd

UNKNOWN = "–"
"""Shown where a figure is not known or does not exist."""
MOST_OF_A_NAME = 60
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LARGEST_PERCENT = 999


def usd(nanousd: int | None) -> str:
    """Dollars.

    >>> [usd(12_350_000_000), usd(None)]
    ['$12.35', '–']
    """
    return UNKNOWN if nanousd is None else format_usd(nanousd)


def count(number: int, one: str, many: str = "") -> str:
    """A number of things.

    >>> [count(1, "kill"), count(1200, "retry", "retries")]
    ['1 kill', '1,200 retries']
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def percent(share: float | None) -> str:
    """A share in whole percent, which says 0 % or 100 % of nothing else.

    >>> [percent(0.251), percent(0.002), percent(0.999), percent(0.0), percent(None)]
    ['25 %', '< 1 %', '> 99 %', '0 %', '–']
    """
    if share is None:
        return UNKNOWN
    rounded = round(100 * share)
    if share > 0 and rounded == 0:
        return "< 1 %"
    return "> 99 %" if share < 1 and rounded == 100 else f"{rounded:,} %"


def change(now: int, before: int | None) -> str:
    """How an amount compares with the one before.

    >>> [change(112, 100), change(9, 100), change(5, 0), change(0, 0), change(5000, 100), change(5, None)]
    ['+12 %', '−91 %', 'new', '±0 %', '50 x', '–']
    """
    if before is None:
        return UNKNOWN
    if not before:
        return "new" if now else "±0 %"
    rounded = round(100 * (now - before) / before)
    if rounded > _LARGEST_PERCENT:
        return f"{round(now / before):,} x"
    return "±0 %" if not rounded else f"{'+' if rounded > 0 else '−'}{abs(rounded)} %"


def precision(one: Incidents) -> str:
    """How much of what a rule told was worth it, and on how many verdicts that rests."""
    judged = f"{one.verdicts.judged:,} of {one.total:,} judged"
    return f"{percent(one.verdicts.precision)} useful, {judged}" if one.verdicts.judged else judged


def loosen(one: Incidents) -> str:
    """What to do about a rule that is mostly noise."""
    if not one.thresholds:
        return "Raise its limits, or put it in shadow mode."
    return f"Look at {' and '.join(one.thresholds)}, or put it in shadow mode."


def named(text: str, most: int = MOST_OF_A_NAME) -> str:
    """A foreign name made harmless; a blank one is said to be blank."""
    return clean(text, most) or "(no name)"


def day(at_ms: int, timezone: str) -> str:
    """A day, as in `Thu 19 Nov`."""
    at = _local(at_ms, timezone)
    return f"{at:%a} {at.day} {at:%b}" if at else "an impossible day"


def moment(at_ms: int, timezone: str) -> str:
    """A day and a time, as in `Thu 19 Nov, 10:15`."""
    at = _local(at_ms, timezone)
    return f"{at:%a} {at.day} {at:%b}, {at:%H:%M}" if at else "an impossible time"


def days_of(week: Week) -> str:
    """From which day to which.

    >>> from alerting.review.week import week_named
    >>> [days_of(week_named(one, "UTC")) for one in ("2026-W47", "2026-W49", "2026-W53")]
    ['16 – 22 November 2026', '30 November – 6 December 2026', '28 December 2026 – 3 January 2027']
    """
    first, last = (_EPOCH + timedelta(milliseconds=ms) for ms in (week.start_ms, week.end_ms - 1))
    zone = ZoneInfo(week.timezone)
    first, last = first.astimezone(zone), last.astimezone(zone)
    end = f"{last.day} {last:%B} {last.year}"
    if first.year != last.year:
        return f"{first.day} {first:%B} {first.year} – {end}"
    return f"{first.day} – {end}" if first.month == last.month else f"{first.day} {first:%B} – {end}"


def compared_with(review: Review) -> str:
    """What the changes of a review are changes from, or why there are none."""
    if not review.comparable:
        since = (
            "nothing is on record"
            if review.since_ms is None
            else (f"counting began on {day(review.since_ms, review.week.timezone)}")
        )
        return f"no change is given, because {since}"
    return "the week before" if review.is_over else "the same stretch of the week before"


def _local(at_ms: int, timezone: str) -> datetime | None:
    try:
        return (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(ZoneInfo(timezone))
    except OverflowError:
        return None
