"""Days and hours that are remembered: bounded, and the same after they went through their rows."""

from random import Random

import pytest

from models.baselines.daily_history import DailyHistory, median_of
from models.baselines.run_days import RunDays
from models.baselines.run_hours import RunHours
from models.calendar import Calendar
from schemas.duration import DAY_MS, HOUR_MS
from tests.support.production import START_MS

BERLIN = Calendar("Europe/Berlin")


def day(number: int, calendar: Calendar = BERLIN) -> int:
    """The start of a day, counted from Monday 2026-11-02."""
    return calendar.window("day", START_MS + number * DAY_MS + 12 * HOUR_MS).start_ms


def test_days_go_through_their_row() -> None:
    """With late spend, planned days and a change of the clocks between them."""
    draw = Random(1)
    history = DailyHistory()
    for number in range(-40, 30):
        history.add(day(number), draw.randrange(10**12))
        if draw.random() < 0.1:
            history.add(day(number - 1), 5)
        if draw.random() < 0.1:
            history.plan(day(number))
    restored = DailyHistory.from_bytes(history.to_bytes())
    assert restored.to_bytes() == history.to_bytes()
    assert restored.active(day(31), 7) == history.active(day(31), 7)
    assert len(history) <= 37
    assert len(history.to_bytes()) < 500


def test_a_broken_row_is_refused() -> None:
    """Of days and of hours alike."""
    history, hours = DailyHistory(), RunHours()
    history.add(day(1), 7)
    hours.add(START_MS, 7)
    for row, read in ((history.to_bytes(), DailyHistory.from_bytes), (hours.to_bytes(), RunHours.from_bytes)):
        for broken in (row[:-1], row + b"\0", b"\xff" + row[1:], b""):
            with pytest.raises(ValueError, match="row"):
                read(broken)


def test_days_that_are_alike() -> None:
    """The same weekday of the last four weeks, the same day of the last month, and as far from its end."""
    for alike in (7, 14, 21, 28, 30):  # 2 December is 30 days after 2 November
        history = DailyHistory()
        history.add(day(30 - alike), 50)
        history.add(day(29), 7)
        assert history.alike(BERLIN, day(30)) == 50, alike
    history = DailyHistory()
    history.add(day(28), 50)  # 30 November, the last day of its month
    assert history.alike(BERLIN, day(59)) == 50
    assert history.alike(BERLIN, day(57)) == 0


def test_a_planned_day_says_nothing() -> None:
    """It counts for no median and is like no other day."""
    history = DailyHistory()
    for number in range(7):
        history.add(day(number), 10)
    history.plan(day(6))
    history.add(day(6), 990)
    assert [one.nanousd for one in history.active(day(7), 7)] == [10] * 6
    assert median_of(history.active(day(7), 7)) == 10
    assert history.alike(BERLIN, day(13)) == 0
    assert history.is_planned(day(6))


def test_runs_are_kept_by_the_day_for_four_weeks() -> None:
    """Late ones in their own day; an accepted output in the day on which it was accepted."""
    days = RunDays()
    for number in range(40):
        assert days.begins(day(number))
        days.add(day(number), 1000)
        assert not days.begins(day(number))
        days.add(day(number - 1), 1000)
        days.accept(day(number))
    assert len(days.closed()) == 28
    assert {(one.runs, one.accepted) for one in days.closed()[1:]} == {(2, 1)}
    assert RunDays.read(days.fields()).fields() == days.fields()


def test_hours_of_runs_are_compared_with_the_same_hours_of_other_days() -> None:
    """A stretch within a day with each of the last seven; of more than a day only with the week before."""
    hours = RunHours()
    for hour in range(10 * 24):
        for _ in range(3):
            hours.add(START_MS + hour * HOUR_MS, hour % 24)
    found = hours.same_hours(START_MS + 9 * DAY_MS, START_MS + 9 * DAY_MS + 2 * HOUR_MS, 3, 0)
    assert [one.runs for one in found] == [6] * 7
    assert [one.mean for one in found] == [0.5] * 7
    assert [one.same_kind for one in found] == [True, True, False, False, True, True, True]
    assert len(hours.same_hours(START_MS + 8 * DAY_MS, START_MS + 9 * DAY_MS + HOUR_MS, 3, 0)) == 1
    assert RunHours.from_bytes(hours.to_bytes()).to_bytes() == hours.to_bytes()
    assert len(hours.to_bytes()) < 1_000
