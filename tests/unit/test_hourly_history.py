"""A scope's hourly past: its median against numpy, its marks, and when breaches become the new normal."""

import random
from fractions import Fraction

import numpy as np
import pytest

from models.baselines.hourly_history import (
    BREACH,
    FORMER,
    KEPT_MS,
    MAX_NANOUSD,
    NORMAL,
    PLANNED,
    WINDOW_MS,
    Baseline,
    Breaches,
    HourlyHistory,
)
from schemas.duration import HOUR_MS

NOW_MS = 490_000 * HOUR_MS


def _history(spend_by_hours_ago: dict[int, tuple[int, bool]]) -> HourlyHistory:
    history = HourlyHistory()
    for ago in sorted(spend_by_hours_ago, reverse=True):
        history.close(NOW_MS - ago * HOUR_MS, *spend_by_hours_ago[ago])
    return history


def _expected(spend_by_hours_ago: dict[int, tuple[int, bool]]) -> Baseline:
    spend = [nanousd for ago, (nanousd, breached) in spend_by_hours_ago.items() if 0 < ago <= 168 and not breached]
    if not spend:
        return Baseline(0, 0, 0)
    median = np.median(np.array(spend, dtype=object) * 2)
    deviations = np.median(np.abs(np.array(spend, dtype=object) * 4 - 2 * median))
    return Baseline(int(median), len(spend), int(deviations) // 4)


def _breaching(history: HourlyHistory) -> int:
    return history.breaches(0, NOW_MS, besides_ms=-1).hours


def test_baseline_equals_numpy() -> None:
    """Over random weeks with idle and breached hours, median, count and MAD equal numpy's, exactly."""
    seed = 11
    rng = random.Random(seed)
    for _ in range(200):
        activity = rng.random()
        hours = {
            ago: (int(rng.lognormvariate(20, 2)), rng.random() < 0.1)
            for ago in range(-2, 180)
            if rng.random() < activity
        }
        assert _history(hours).baseline(NOW_MS) == _expected(hours), (seed, hours)


def test_baseline_covers_seven_days_and_not_the_running_hour() -> None:
    """The hour 168 hours ago counts, the one before it and the one asked about do not."""
    assert _history({168: (5, False)}).baseline(NOW_MS).active_hours == 1
    assert _history({169: (5, False), 0: (7, False)}).baseline(NOW_MS).active_hours == 0


def test_large_spend_does_not_wrap() -> None:
    """Spend at the bound of 64 bits gives an exact median, and more is kept as the bound."""
    history = _history({3: (MAX_NANOUSD, False), 2: (MAX_NANOUSD - 1, False), 1: (2 * MAX_NANOUSD, False)})
    assert history.baseline(NOW_MS) == Baseline(2 * MAX_NANOUSD, 3, 0)
    assert history.add_late(NOW_MS - 2 * HOUR_MS, MAX_NANOUSD) == MAX_NANOUSD


@pytest.mark.parametrize("factor", [Fraction(5), Fraction(3, 2), Fraction(10, 3), Fraction("2.55")])
def test_trip_is_the_smallest_spend_beyond_the_factor(factor: Fraction) -> None:
    """Spend of the trip value is more than factor x median, and one nano-dollar less is not."""
    seed = 12
    rng = random.Random(seed)
    for _ in range(500):
        baseline = Baseline(rng.randrange(10**12), 5, 0)
        trip = baseline.trip(factor)
        assert 2 * trip > factor * baseline.median_x2 >= 2 * (trip - 1), (seed, baseline)


def test_nothing_trips_without_a_past() -> None:
    """A scope without active hours has no baseline, and asking for its trip is an error, not zero."""
    with pytest.raises(ValueError, match="no baseline"):
        HourlyHistory().baseline(NOW_MS).trip(Fraction(5))


def test_the_order_of_closing_and_lateness_do_not_matter() -> None:
    """Hours closed in any order, in one go or with late additions, make the same history."""
    seed = 13
    rng = random.Random(seed)
    for _ in range(50):
        hours = {ago: (rng.randrange(2, 10**9), False) for ago in rng.sample(range(1, 169), 60)}
        shuffled = HourlyHistory()
        for ago in rng.sample(sorted(hours), len(hours)):
            spend, _ = hours[ago]
            early = rng.randrange(spend)
            shuffled.close(NOW_MS - ago * HOUR_MS, early, False)
            assert shuffled.add_late(NOW_MS - ago * HOUR_MS, spend - early) == spend, (seed, ago)
        assert shuffled.to_bytes() == _history(hours).to_bytes(), seed


def test_late_spend_keeps_the_breach() -> None:
    """An hour that was a breach stays one when late spend is added, and an idle hour becomes active."""
    history = _history({2: (5, True)})
    assert history.add_late(NOW_MS - 2 * HOUR_MS, 4) == 9
    assert (_breaching(history), history.baseline(NOW_MS).active_hours) == (1, 0)
    assert history.add_late(NOW_MS - HOUR_MS, 3) == 3
    assert (_breaching(history), history.baseline(NOW_MS)) == (1, Baseline(6, 1, 0))


@pytest.mark.parametrize("first", [NORMAL, BREACH, FORMER])
def test_a_planned_hour_counts_for_nothing(first: int) -> None:
    """It is in no baseline, level, season or count of what is known, whatever is found or added later."""
    history = HourlyHistory()
    for ago, mark in ((3, NORMAL), (2, first), (1, BREACH)):
        history.close(NOW_MS - ago * HOUR_MS, 10 - ago, mark)
    history.mark(NOW_MS - 2 * HOUR_MS, PLANNED)
    history.mark(NOW_MS - 2 * HOUR_MS, BREACH)
    history.add_late(NOW_MS - 2 * HOUR_MS, 5)
    history.restart(NOW_MS - 3 * HOUR_MS)
    restored = HourlyHistory.from_bytes(history.to_bytes())
    assert restored.is_planned(NOW_MS - 2 * HOUR_MS)
    assert restored.baseline(NOW_MS) == restored.level(NOW_MS - 5 * HOUR_MS, NOW_MS) == Baseline(16, 2, 1)
    assert restored.known_hours(NOW_MS) == 2
    assert restored.unplanned_spend([NOW_MS - 2 * HOUR_MS]) == 0
    history.mark(NOW_MS - 5 * HOUR_MS, PLANNED)
    assert len(history) == 3, "an idle hour needs no mark"


def test_an_incidents_hours_are_planned_together() -> None:
    """Its breaches become planned ones, and no hour between or outside them does."""
    history = _history({5: (1, True), 4: (2, True), 3: (3, False), 2: (4, True), 1: (5, True)})
    history.mark_breaches_planned(NOW_MS - 4 * HOUR_MS, NOW_MS - HOUR_MS)
    assert [history.is_planned(NOW_MS - ago * HOUR_MS) for ago in (5, 4, 3, 2, 1)] == [False, True, False, True, False]


def test_idle_hours_leave_no_trace() -> None:
    """Hours without spend are not part of the median, also when they were entered with spend before."""
    history = _history({3: (5, False), 2: (0, False)})
    history.add_late(NOW_MS - 4 * HOUR_MS, 0)
    history.close(NOW_MS - 3 * HOUR_MS, 0, False)
    assert len(history) == 0


def test_closing_again_replaces() -> None:
    """An hour entered twice counts once, as it was entered last."""
    history = _history({3: (5, False)})
    history.close(NOW_MS - 3 * HOUR_MS, 7, True)
    assert (len(history), _breaching(history), history.baseline(NOW_MS).active_hours) == (1, 1, 0)


def test_memory_is_bounded() -> None:
    """However long hours are entered, only those of the last eight days are held; older ones are not let in."""
    history = HourlyHistory()
    for hour in range(2000):
        history.close(NOW_MS + hour * HOUR_MS, 1, False)
        assert len(history) <= KEPT_MS // HOUR_MS + 1
    held = len(history)
    assert history.add_late(NOW_MS, 5) == 5
    assert len(history) == held
    history.prune(NOW_MS + 2000 * HOUR_MS + WINDOW_MS)
    assert 0 < len(history) < held
    history.prune(NOW_MS + 4000 * HOUR_MS)
    assert len(history) == 0


def test_a_persistent_level_becomes_the_new_normal() -> None:
    """After a restart its hours are the baseline and nothing is a breach; those before are known and not normal."""
    history = _history({9: (1, True), 8: (2, False), 5: (10, True), 3: (20, False), 1: (30, True)})
    history.restart(NOW_MS - 5 * HOUR_MS)
    assert history.baseline(NOW_MS) == Baseline(40, 3, 10)
    assert _breaching(history) == 0
    assert history.known_hours(NOW_MS) == 5
    assert history.unplanned_spend([NOW_MS - 8 * HOUR_MS]) == 2
    assert history.reaches_back(NOW_MS, 9 * HOUR_MS)
    assert not history.reaches_back(NOW_MS, 10 * HOUR_MS)


NEW_NORMAL = [
    # marks from the oldest to the latest hour: b breach, n normal, p planned, . idle; index of the first of the level
    ("nnnbbbb", 3),
    ("nnnbbb", None),  # three are not four
    ("nnbnbnbb", 2),  # four of the last six
    ("bnnnbbb", None),  # the fourth is the seventh back
    ("bnnnbbbb", 4),
    ("bbbbn", None),  # the latest hour is no breach
    ("nbpbpbpb", 1),  # planned hours are not counted,
    ("pppp", None),  # either way
    ("b..b...b.b", 0),  # idle hours are none
    ("n" + 165 * "." + "bb", None),  # a normal hour in the last seven days, just
    ("n" + 166 * "." + "bb", 167),  # none, and two breaches are the fewest wanted
    ("n" + 166 * "." + "..b", None),
    ("n" + 160 * "." + "bb" + 5 * ".", None),
    ("n" + 160 * "." + "bb" + 6 * ".", 161),  # it is the hour to be judged that looks back
]


@pytest.mark.parametrize(("marks", "since"), NEW_NORMAL)
def test_when_breaches_are_the_new_normal(marks: str, since: int | None) -> None:
    """Four of the last six active hours, or two with nothing normal left in seven days."""
    history = HourlyHistory()
    for place, mark in enumerate(marks):
        if mark != ".":
            history.close(NOW_MS + place * HOUR_MS, 7, {"n": NORMAL, "b": BREACH, "p": PLANNED}[mark])
    found = history.new_normal_since(NOW_MS + len(marks) * HOUR_MS, 4, 6, 2)
    assert found == (None if since is None else NOW_MS + since * HOUR_MS)


def test_breaches_name_the_dearest() -> None:
    """Their number, sum and dearest hour, without the one left out and those outside; nothing where there is none."""
    history = _history({6: (99, True), 4: (7, True), 3: (50, False), 2: (9, True), 1: (8, True)})
    stretch = (NOW_MS - 4 * HOUR_MS, NOW_MS)
    assert history.breaches(*stretch, besides_ms=NOW_MS - HOUR_MS) == Breaches(2, 16, NOW_MS - 2 * HOUR_MS, 9)
    assert history.breaches(NOW_MS - HOUR_MS, NOW_MS, besides_ms=NOW_MS - HOUR_MS) == Breaches(0, 0, 0, 0)


def test_the_share_of_a_parent() -> None:
    """Of what the parent spent in the same hours, and not in those in which the scope did nothing."""
    parent = _history({3: (40, False), 2: (20, False), 1: (1000, False)})
    child = _history({3: (10, False), 2: (5, False)})
    assert child.share_of(parent, NOW_MS) == (2, Fraction(1, 4))
    assert HourlyHistory().share_of(parent, NOW_MS) == (0, Fraction())
    assert child.share_of(HourlyHistory(), NOW_MS) == (2, Fraction())


@pytest.mark.parametrize("step_ms", [HOUR_MS, HOUR_MS // 2, 1000])
def test_a_restored_history_is_the_same(step_ms: int) -> None:
    """A history read back from its row answers alike and writes the same row, also for half hours and odd offsets."""
    seed = 14
    rng = random.Random(seed)
    for active in (0, 1, 2, 100):
        history = HourlyHistory()
        for place in rng.sample(range(150), active):
            history.close(NOW_MS - HOUR_MS - place * step_ms, int(rng.lognormvariate(20, 3)), rng.random() < 0.3)
        row = history.to_bytes()
        restored = HourlyHistory.from_bytes(row)
        assert restored.to_bytes() == row, seed
        assert restored.baseline(NOW_MS) == history.baseline(NOW_MS), seed
        assert _breaching(restored) == _breaching(history), seed


def test_rows_are_compact() -> None:
    """A full week of a scope that spends a few dollars an hour takes less than 1.2 kB, an idle one next to nothing."""
    week = {ago: (ago * 25_000_000, False) for ago in range(1, 169)}
    assert len(_history(week).to_bytes()) < 1200
    assert len(HourlyHistory().to_bytes()) < 20


@pytest.mark.parametrize(
    "row", [b"", b"\x07", b"\x01", b"\x01\x05\x00" + bytes(12), _history({2: (9, False)}).to_bytes()[:-1]]
)
def test_a_broken_history_row_is_refused(row: bytes) -> None:
    """A row of another version, cut short or empty is an error, never a wrong history."""
    with pytest.raises(ValueError, match="row"):
        HourlyHistory.from_bytes(row)


def test_negative_money_is_refused() -> None:
    """No spend is negative."""
    with pytest.raises(ValueError, match="negative"):
        HourlyHistory().close(NOW_MS, -1, False)
    with pytest.raises(ValueError, match="negative"):
        HourlyHistory().add_late(NOW_MS, -1)
