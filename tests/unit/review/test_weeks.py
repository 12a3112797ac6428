"""Weeks lie where the clocks of the policy's zone put them, and reviews are due when they were asked for."""

from datetime import UTC, datetime
from random import Random
from zoneinfo import ZoneInfo

import pytest

from alerting.review.week import Week, last_full_week, next_review_ms, week_before, week_named, week_of
from models.calendar import Calendar
from schemas.errors import PolicyError
from schemas.routing import WeeklyReview, parse_routing
from tests.support.messages import DAY_MS, HOUR_MS

MONDAY = "2026-11-23T08:30:00+00:00"


def ms(text: str) -> int:
    """Epoch milliseconds of an ISO time."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("label", "zone", "start", "hours"),
    [
        ("2026-W47", "UTC", "2026-11-16T00:00:00+00:00", 168),
        ("2026-W01", "UTC", "2025-12-29T00:00:00+00:00", 168),
        ("2026-W53", "UTC", "2026-12-28T00:00:00+00:00", 168),
        ("2026-W47", "Asia/Kolkata", "2026-11-15T18:30:00+00:00", 168),
        # Clocks go forward on Sunday, 29 March, and back on Sunday, 25 October.
        ("2026-W13", "Europe/Berlin", "2026-03-22T23:00:00+00:00", 167),
        ("2026-W43", "Europe/Berlin", "2026-10-18T22:00:00+00:00", 169),
        ("2026-W44", "Europe/Berlin", "2026-10-25T23:00:00+00:00", 168),
    ],
)
def test_a_week_lies_where_the_clocks_put_it(label: str, zone: str, start: str, hours: int) -> None:
    """It starts on Monday at local midnight, and is an hour shorter or longer where the clocks change."""
    week = week_named(label, zone)
    assert (week.start_ms, week.end_ms - week.start_ms) == (ms(start), hours * HOUR_MS)
    assert week_of(zone, week.start_ms) == week_of(zone, week.end_ms - 1) == week
    assert week_before(week).end_ms == week.start_ms
    assert week_of(zone, week.end_ms) != week


def test_weeks_are_those_of_the_budgets() -> None:
    """A week of the review has the bounds of the engine's weeks and days, in zones of every kind."""
    seed = 20261123
    random = Random(seed)
    for zone in ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/Santiago"):
        calendar = Calendar(zone)
        for _ in range(200):
            at_ms = random.randrange(ms("2020-01-01T00:00:00+00:00"), ms("2035-01-01T00:00:00+00:00"))
            week = week_of(zone, at_ms)
            assert (week.start_ms, week.end_ms) == calendar.window("week", at_ms), (seed, zone, at_ms)
            day = calendar.window("day", at_ms)
            number = week.day_of(at_ms)
            assert (week.days_ms[number], week.days_ms[number + 1]) == day, (seed, zone, at_ms)


def test_an_hour_that_autumn_repeats_is_shown_twice() -> None:
    """Both hours from 2 to 3 o'clock are the hour 02 of their day."""
    week = week_named("2026-W43", "Europe/Berlin")
    first = ms("2026-10-25T02:30:00+02:00")
    assert [week.hour_of_day(first), week.hour_of_day(first + HOUR_MS)] == [2, 2]
    assert week.day_of(first) == week.day_of(first + HOUR_MS) == 6


@pytest.mark.parametrize(
    "label", ["", "2026", "2026-W54", "2026-W00", "2026-47", "26-W47", "0000-W01", "2026-W471", "W47"]
)
def test_what_is_no_week_is_refused(label: str) -> None:
    """The error says how a week is written."""
    with pytest.raises(ValueError, match="week"):
        week_named(label, "UTC")


def test_the_last_full_week_is_over() -> None:
    """It changes at the very instant at which a week ends."""
    week = week_named("2026-W47", "Europe/Berlin")
    assert last_full_week("Europe/Berlin", week.end_ms) == week
    assert last_full_week("Europe/Berlin", week.end_ms - 1) == week_before(week)


@pytest.mark.parametrize(
    ("review", "now", "due"),
    [
        ({}, "2026-11-23T08:29:59+00:00", MONDAY),
        ({}, MONDAY, "2026-11-30T08:30:00+00:00"),
        ({}, "2026-11-24T00:00:00+00:00", "2026-11-30T08:30:00+00:00"),
        ({"weekday": "sun", "at": "23:59"}, "2026-11-23T00:00:00+00:00", "2026-11-29T23:59:00+00:00"),
        ({"timezone": "America/New_York"}, "2026-11-22T12:00:00+00:00", "2026-11-23T08:30:00-05:00"),
        # Half past two does not exist on this Sunday: the clocks go on at three, which shows half past three.
        ({"weekday": "sun", "at": "02:30", "timezone": "Europe/Berlin"}, "2026-03-28T12:00:00+00:00",
         "2026-03-29T03:30:00+02:00"),
        # It exists twice on this one: the first counts, and it is not sent again an hour later.
        ({"weekday": "sun", "at": "02:30", "timezone": "Europe/Berlin"}, "2026-10-24T12:00:00+00:00",
         "2026-10-25T02:30:00+02:00"),
        ({"weekday": "sun", "at": "02:30", "timezone": "Europe/Berlin"}, "2026-10-25T02:30:00+02:00",
         "2026-11-01T02:30:00+01:00"),
    ],
)  # fmt: skip
def test_a_review_is_due_when_it_was_asked_for(review: dict[str, str], now: str, due: str) -> None:
    """The next one is after now, on its weekday and at its time, in its zone or the policy's."""
    assert next_review_ms(WeeklyReview(receivers=["ops"], **review), "UTC", ms(now)) == ms(due)  # type: ignore[arg-type]


def test_reviews_come_once_a_week_for_ever() -> None:
    """Each due time follows the one before within 167 to 169 hours, and shows the asked time."""
    settings = WeeklyReview(receivers=["ops"], weekday="wed", at="07:05", timezone="America/Santiago")
    now = ms("2026-01-01T00:00:00+00:00")
    for _ in range(120):
        due = next_review_ms(settings, "UTC", now)
        local = datetime.fromtimestamp(due / 1000, UTC).astimezone(ZoneInfo("America/Santiago"))
        assert (local.weekday(), local.hour, local.minute) == (2, 7, 5)
        assert 0 < due - now <= 7 * DAY_MS + HOUR_MS
        now = due


def test_the_table_is_validated_with_the_others() -> None:
    """Every fault is named with its place, together with those of other tables."""
    with pytest.raises(PolicyError) as caught:
        parse_routing(
            {
                "receivers": {"oncall": {"type": "pagerduty", "key_env": "KEY"}},
                "route": [{"receivers": ["nobody"]}],
                "review": {"receivers": ["oncall", "ops"], "weekday": "monday", "at": "8:30", "timezone": "Mars/Base"},
            }
        )
    faults = "\n".join(caught.value.faults)
    assert "review.weekday: " in faults
    assert "review.at: '8:30' is no time of day; write it as \"08:30\"" in faults
    assert "review.timezone: there is no time zone 'Mars/Base'" in faults
    assert "review.receivers: there is no receiver 'ops'" in faults
    assert "review.receivers: 'oncall' is a pagerduty receiver, and a review wakes nobody" in faults
    assert "route[0].receivers: there is no receiver 'nobody'" in faults


@pytest.mark.parametrize(
    "review", [{}, {"receivers": []}, {"receivers": "ops"}, {"receivers": ["console"], "when": 1}, 5]
)
def test_a_faulty_table_is_refused(review: object) -> None:
    """Without receivers, with unknown settings, or no table at all."""
    with pytest.raises(PolicyError, match="review"):
        parse_routing({"review": review})


def test_the_console_may_be_told() -> None:
    """It is a receiver without being written down; left out, no review is sent."""
    settings = parse_routing({"review": {"receivers": ["console"]}}).review
    assert settings is not None
    assert (settings.weekday, settings.at, settings.timezone) == ("mon", "08:30", None)
    assert parse_routing({}).review is None


def test_a_week_is_a_value() -> None:
    """Two of the same name and zone are equal, and can be told apart from those of another zone."""
    assert week_named("2026-W47", "UTC") == week_named("2026-W47", "UTC")
    assert isinstance(week_named("2026-W47", "UTC"), Week)
    assert week_named("2026-W47", "UTC") != week_named("2026-W47", "Europe/Berlin")
