"""Calendar periods against clocks stepped by hand, and against numpy for UTC."""

import random
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from models.calendar import END_MS, MIN_MS, Calendar, Period, Window
from schemas.duration import HOUR_MS

PERIODS: tuple[Period, ...] = ("hour", "day", "week", "month")
STEP_S = 30
DAY_S = 86_400

CHANGES = [
    ("UTC", date(2026, 1, 1)),
    ("Europe/Berlin", date(2026, 3, 29)),
    ("Europe/Berlin", date(2026, 10, 25)),
    ("America/New_York", date(2026, 3, 8)),
    ("America/New_York", date(2026, 11, 1)),
    ("America/Sao_Paulo", date(2018, 11, 4)),  # midnight does not exist
    ("America/Sao_Paulo", date(2018, 2, 18)),  # at midnight clocks go back to 23:00
    ("America/Toronto", date(1919, 3, 31)),  # from 23:30 to 00:30: midnight is inside the gap
    ("America/St_Johns", date(2006, 10, 29)),  # at 00:01 clocks go back to 23:01: midnight comes twice
    ("Asia/Kolkata", date(2026, 1, 1)),
    ("Asia/Kathmandu", date(1986, 1, 1)),  # from +5:30 to +5:45 at midnight
    ("Asia/Pyongyang", date(2018, 5, 5)),  # from +8:30 to +9:00
    ("America/Caracas", date(2016, 5, 1)),  # from -4:30 to -4:00
    ("Australia/Lord_Howe", date(2026, 4, 5)),  # half an hour back
    ("Australia/Lord_Howe", date(2026, 10, 4)),  # half an hour forward
    ("Pacific/Apia", date(2011, 12, 30)),  # the day that was left out
    ("Africa/Casablanca", date(2026, 2, 15)),
    ("Africa/Casablanca", date(2026, 3, 22)),
    ("Africa/Monrovia", date(1972, 1, 7)),  # from -0:44:30 to 0
]
ZONES = sorted({zone for zone, _ in CHANGES})


@pytest.fixture(autouse=True)
def _zones_of_the_package() -> Iterator[None]:
    """The tests' own zones come from `tzdata` as well, not from the machine."""
    zoneinfo.reset_tzpath(to=())
    ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath()
    ZoneInfo.clear_cache()


def _steps(zone: str, around: date) -> list[tuple[int, datetime]]:
    """Every half minute of the days around a date: epoch milliseconds, and what the clocks show."""
    start_s = int(datetime(around.year, around.month, around.day, tzinfo=UTC).timestamp()) - 2 * DAY_S
    info = ZoneInfo(zone)
    return [
        (s * 1000, datetime.fromtimestamp(s, UTC).astimezone(info)) for s in range(start_s, start_s + 5 * DAY_S, STEP_S)
    ]


def _near_changes(steps: list[tuple[int, datetime]]) -> list[int]:
    """The instants around each change of the clocks, which nothing found before must help to answer; else any."""
    changes = [place for place, (a, b) in enumerate(pairwise(steps)) if a[1].utcoffset() != b[1].utcoffset()]
    near = [steps[place + off][0] for place in changes for off in range(-60, 130)]
    return near or [at_ms for at_ms, _ in steps]


def _assert_windows(calendar: Calendar, period: Period, starts: list[int], steps: list[tuple[int, datetime]]) -> None:
    """Every step lies in the window between two starts, for a calendar used before and for fresh ones."""
    expected = pairwise(starts)
    window = next(expected)
    seed = 6
    fresh = set(random.Random(seed).sample(_near_changes(steps), 60))
    for at_ms, local in steps:
        if at_ms >= starts[-1]:
            break
        if at_ms >= starts[0]:
            while at_ms >= window[1]:
                window = next(expected)
            assert calendar.window(period, at_ms) == window, (local.isoformat(), calendar.timezone)
            if at_ms in fresh:
                assert Calendar(calendar.timezone).window(period, at_ms) == window, (local.isoformat(), seed)


@pytest.mark.parametrize(("zone", "around"), CHANGES)
def test_hours_start_when_clocks_show_a_full_hour(zone: str, around: date) -> None:
    """A new hour begins exactly where stepped clocks reach :00, or where their offset changes by a part of an hour."""
    steps = _steps(zone, around)
    starts = []
    for (_, before), (at_ms, local) in pairwise(steps):
        change = (local.utcoffset() or timedelta()) - (before.utcoffset() or timedelta())
        full_hour = local.minute == local.second == 0 and not change % timedelta(hours=1)
        if full_hour or change % timedelta(hours=1):
            starts.append(at_ms)
    _assert_windows(Calendar(zone), "hour", starts, steps)


@pytest.mark.parametrize(("zone", "around"), CHANGES)
def test_days_start_when_clocks_first_show_a_later_date(zone: str, around: date) -> None:
    """A new day begins exactly where stepped clocks show a later date than ever before."""
    steps = _steps(zone, around)
    starts = []
    latest = steps[0][1].date()
    for at_ms, local in steps:
        if local.date() > latest:
            latest = local.date()
            starts.append(at_ms)
    _assert_windows(Calendar(zone), "day", starts, steps)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("period", PERIODS)
def test_windows_tile_time(zone: str, period: Period) -> None:
    """Over three centuries each window holds the instant asked for and ends where the next one starts."""
    seed = 7
    rng = random.Random(f"{seed}{zone}{period}")
    calendar = Calendar(zone)
    longest_ms = {"hour": 1, "day": 50, "week": 170 + 24, "month": 31 * 24 + 24}[period] * HOUR_MS
    for _ in range(300):
        at_ms = rng.randrange(MIN_MS + 40 * DAY_S * 1000, END_MS - 40 * DAY_S * 1000)
        window = calendar.window(period, at_ms)
        assert window.start_ms <= at_ms < window.end_ms <= window.start_ms + longest_ms, (seed, at_ms)
        for inside_ms in (window.start_ms, window.end_ms - 1, rng.randrange(window.start_ms, window.end_ms)):
            assert calendar.window(period, inside_ms) == window, (seed, at_ms, inside_ms)
        assert calendar.window(period, window.end_ms).start_ms == window.end_ms, (seed, at_ms)
        assert calendar.window(period, window.start_ms - 1).end_ms == window.start_ms, (seed, at_ms)


@pytest.mark.parametrize("zone", ZONES)
def test_weeks_start_on_monday_and_months_on_the_first(zone: str) -> None:
    """A week or month starts with a day, and clocks at its start show Monday, or the first of the month."""
    seed = 8
    rng = random.Random(f"{seed}{zone}")
    calendar = Calendar(zone)
    info = ZoneInfo(zone)
    for _ in range(300):
        at_ms = rng.randrange(0, END_MS - 40 * DAY_S * 1000)
        week, month = calendar.window("week", at_ms), calendar.window("month", at_ms)
        assert (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=week.start_ms)).astimezone(
            info
        ).weekday() == 0
        assert (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=month.start_ms)).astimezone(info).day == 1
        for start_ms in (week.start_ms, month.start_ms):
            assert calendar.window("day", start_ms).start_ms == start_ms, (seed, at_ms)


def test_utc_equals_numpy() -> None:
    """In UTC every period equals numpy's calendar arithmetic, from 1900 to 2199."""
    seed = 9
    rng = random.Random(seed)
    calendar = Calendar("UTC")
    units = {"hour": "h", "day": "D", "week": "W", "month": "M"}
    for _ in range(2000):
        at_ms = rng.randrange(MIN_MS, END_MS)
        for period in PERIODS:
            at = np.datetime64(at_ms, "ms")
            # numpy's weeks start on Thursday, the day of the epoch: moved by three days they start on Monday
            moved = np.timedelta64(3 if period == "week" else 0, "D")
            start = (at + moved).astype(f"datetime64[{units[period]}]")
            expected = [int((edge.astype("datetime64[ms]") - moved).astype(np.int64)) for edge in (start, start + 1)]
            assert calendar.window(period, at_ms) == Window(*expected), (seed, at_ms, period)


def test_the_repeated_hour_is_a_window_of_its_own() -> None:
    """In Berlin 02:00 to 03:00 happens twice on 2026-10-25, and each time is charged apart in a day of 25 hours."""
    calendar = Calendar("Europe/Berlin")
    info = ZoneInfo("Europe/Berlin")
    first_ms, second_ms = (
        int(datetime(2026, 10, 25, 2, 30, tzinfo=info, fold=fold).timestamp()) * 1000 for fold in (0, 1)
    )
    first, second = calendar.window("hour", first_ms), calendar.window("hour", second_ms)
    assert first.end_ms == second.start_ms
    assert first.end_ms - first.start_ms == second.end_ms - second.start_ms == HOUR_MS
    day = calendar.window("day", first_ms)
    assert day.end_ms - day.start_ms == 25 * HOUR_MS


def test_answers_do_not_depend_on_what_was_asked_before() -> None:
    """A calendar that has answered thousands of other questions answers as a fresh one does."""
    seed = 10
    rng = random.Random(seed)
    used = Calendar("Australia/Lord_Howe")
    for _ in range(3000):
        period = rng.choice(PERIODS)
        at_ms = rng.randrange(1_700_000_000_000, 1_800_000_000_000)
        window = used.window(period, at_ms)
        if rng.random() < 0.02:
            assert window == Calendar("Australia/Lord_Howe").window(period, at_ms), (seed, period, at_ms)


@pytest.mark.parametrize("at_ms", [MIN_MS - 1, END_MS, -(2**63), 2**63 - 1])
def test_times_out_of_bounds_are_refused(at_ms: int) -> None:
    """An instant that no calendar here covers is an error that says so, not a wrong window."""
    for period in PERIODS:
        with pytest.raises(ValueError, match="1900 to 2199"):
            Calendar("Europe/Berlin").window(period, at_ms)


@pytest.mark.parametrize("at_ms", [MIN_MS, END_MS - 1])
@pytest.mark.parametrize("zone", ZONES)
def test_the_bounds_themselves_are_answered(zone: str, at_ms: int) -> None:
    """The first and the last instant have windows in every zone."""
    for period in PERIODS:
        window = Calendar(zone).window(period, at_ms)
        assert window.start_ms <= at_ms < window.end_ms


@pytest.mark.parametrize(
    "zone", ["", "Mars/Olympus", "Europe", "../zones", "/etc/localtime", "tzdata.zi", "leapseconds"]
)
def test_unknown_zones_are_refused(zone: str) -> None:
    """What is no zone of the package is refused by name, files outside of it among them."""
    with pytest.raises(ValueError, match="unknown time zone"):
        Calendar(zone)


ALIKE = [
    # zone, an hour's local start (fold), and for some days before the local starts of the hours like it
    ("UTC", "2026-03-30 02:00", {1: ["2026-03-29 02:00"], 7: ["2026-03-23 02:00"]}),
    ("Asia/Kolkata", "2026-03-30 02:00", {1: ["2026-03-29 02:00"]}),
    # Clocks went forward on the 29th: a job by local time runs at 03:00 all along, one by universal time did at 02:00.
    ("Europe/Berlin", "2026-03-30 03:00", {1: ["2026-03-29 03:00"], 2: ["2026-03-28 02:00", "2026-03-28 03:00"]}),
    ("Europe/Berlin", "2026-03-30 02:00", {1: ["2026-03-29 01:00"], 2: ["2026-03-28 01:00", "2026-03-28 02:00"]}),
    # Clocks went back on the 25th: it was 02:00 twice.
    ("Europe/Berlin", "2026-10-26 02:00", {1: ["2026-10-25 02:00", "2026-10-25 02:00+"]}),
    ("Europe/Berlin", "2026-10-26 02:00", {2: ["2026-10-24 02:00", "2026-10-24 03:00"]}),
    ("Europe/Berlin", "2026-10-26 03:00", {1: ["2026-10-25 03:00"], 2: ["2026-10-24 03:00", "2026-10-24 04:00"]}),
]  # fmt: skip


def _hour_ms(zone: str, shown: str) -> int:
    local = datetime.fromisoformat(shown.rstrip("+")).replace(tzinfo=ZoneInfo(zone), fold=int(shown.endswith("+")))
    return int(local.timestamp()) * 1000


@pytest.mark.parametrize(("zone", "hour", "days"), ALIKE)
def test_hours_like_one_on_days_before(zone: str, hour: str, days: dict[int, list[str]]) -> None:
    """The clocks showed the same, or it is exactly so many times 24 hours ago: a change of the clocks hides no job."""
    alike = Calendar(zone).hours_alike(_hour_ms(zone, hour), 7)
    assert len(alike) == 7
    assert {day: list(alike[day - 1]) for day in days} == {
        day: [_hour_ms(zone, shown) for shown in starts] for day, starts in days.items()
    }


@pytest.mark.parametrize("zone", ZONES)
def test_hours_like_one_are_hours(zone: str) -> None:
    """Around the changes of clocks, whatever is like an hour shows its time or is a whole number of days away."""
    calendar, info = Calendar(zone), ZoneInfo(zone)
    for _, around in (change for change in CHANGES if change[0] == zone):
        for start_ms in sorted({calendar.window("hour", step[0]).start_ms for step in _steps(zone, around)[::60]}):
            shown = datetime.fromtimestamp(start_ms // 1000, UTC).astimezone(info).time()
            for day, starts in enumerate(calendar.hours_alike(start_ms, 7), 1):
                assert start_ms - day * DAY_S * 1000 in starts
                assert list(starts) == sorted(set(starts))
                for one_ms in starts:
                    same = datetime.fromtimestamp(one_ms // 1000, UTC).astimezone(info).time() == shown
                    assert same or one_ms == start_ms - day * DAY_S * 1000, (zone, start_ms, day)
