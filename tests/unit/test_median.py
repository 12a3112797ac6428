"""Medians of hourly spend and of run costs, against numpy and plain lists."""

import math
import random
from fractions import Fraction

import numpy as np
import pytest

from models.state.median import (
    BREACH,
    HOUR_MS,
    KEPT_MS,
    MAX_NANOUSD,
    NORMAL,
    PLANNED,
    RUNS_KEPT,
    WINDOW_MS,
    Baseline,
    HourlyHistory,
    RecentCosts,
)

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
    assert history.breach_streak() == 1
    assert history.add_late(NOW_MS - HOUR_MS, 3) == 3
    assert (history.breach_streak(), history.baseline(NOW_MS)) == (0, Baseline(6, 1, 0))


@pytest.mark.parametrize("first", [NORMAL, BREACH])
def test_a_planned_hour_counts_neither_way(first: int) -> None:
    """It is out of the baseline and ends a streak, stays so whatever is found or added later, and survives the row."""
    history = HourlyHistory()
    for ago, mark in ((3, NORMAL), (2, first), (1, BREACH)):
        history.close(NOW_MS - ago * HOUR_MS, 10 - ago, mark)
    history.mark(NOW_MS - 2 * HOUR_MS, PLANNED)
    history.mark(NOW_MS - 2 * HOUR_MS, BREACH)
    history.add_late(NOW_MS - 2 * HOUR_MS, 5)
    restored = HourlyHistory.from_bytes(history.to_bytes())
    assert (restored.breach_streak(), restored.baseline(NOW_MS)) == (1, Baseline(14, 1, 0))
    history.mark(NOW_MS - 5 * HOUR_MS, PLANNED)
    assert len(history) == 3, "an idle hour needs no mark"


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
    assert (len(history), history.breach_streak(), history.baseline(NOW_MS).active_hours) == (1, 1, 0)


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
    """After a streak of breaches is accepted, only its hours make the baseline, and none is a breach."""
    history = _history({9: (1, True), 8: (2, False), 5: (10, True), 3: (20, True), 1: (30, True)})
    assert history.breach_streak() == 3
    history.restart_from_streak()
    assert history.baseline(NOW_MS) == Baseline(40, 3, 10)
    assert history.breach_streak() == 0
    with pytest.raises(ValueError, match="no streak"):
        history.restart_from_streak()


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
        assert restored.breach_streak() == history.breach_streak(), seed


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


def test_run_costs_equal_numpy_over_the_last_256() -> None:
    """After every run the median is exact, and the spread of log cost is numpy's, over the last 256 runs."""
    seed = 15
    rng = random.Random(seed)
    costs = RecentCosts()
    given: list[int] = []
    for _ in range(700):
        given.append(rng.choice([0, 5, int(rng.lognormvariate(15, 1.5))]))
        costs.add(given[-1])
        kept = given[-RUNS_KEPT:]
        logs = np.log(np.maximum(kept, 1))
        assert costs.median_x2() == int(2 * np.median(kept)), (seed, len(given))
        assert costs.log_mad() == pytest.approx(float(np.median(np.abs(logs - np.median(logs)))), abs=1e-12), seed
        assert len(costs) == len(kept)


def test_the_multiple_grows_with_the_spread() -> None:
    """Runs that all cost the same keep the base; of wide log-normal costs about one in a thousand stands out."""
    rng = random.Random(16)
    steady, wide = RecentCosts(), RecentCosts()
    for _ in range(RUNS_KEPT):
        steady.add(1_000_000)
        wide.add(int(rng.lognormvariate(18, 1.5)))
    assert steady.multiple(5.0) == 5.0
    assert math.exp(3.09 * 1.2) < wide.multiple(5.0) < math.exp(3.09 * 1.8)
    fresh = [rng.lognormvariate(18, 1.5) for _ in range(20_000)]
    share = sum(cost > wide.multiple(5.0) * wide.median_x2() / 2 for cost in fresh) / len(fresh)
    assert share < 0.005


def test_no_runs_is_no_median() -> None:
    """Without a finished run there is no median, and the multiple is the base."""
    costs = RecentCosts()
    with pytest.raises(ValueError, match="no median"):
        costs.median_x2()
    assert costs.multiple(5.0) == 5.0


def test_restored_costs_go_on_as_if_never_stopped() -> None:
    """Costs read back from their row write the same row, and forget the same runs first."""
    seed = 17
    rng = random.Random(seed)
    costs = RecentCosts()
    for count in range(600):
        costs.add(rng.choice([3, rng.randrange(10**12), 2 * MAX_NANOUSD]))
        if count % 97 == 0:
            restored = RecentCosts.from_bytes(costs.to_bytes())
            assert restored.to_bytes() == costs.to_bytes(), (seed, count)
            assert restored.log_mad() == costs.log_mad(), (seed, count)
            costs = restored
    assert len(costs) == RUNS_KEPT


@pytest.mark.parametrize(
    "row", [b"", b"\x09\x00\x00B", b"\x01\x02\x00B\x01", b"\x01\x01\x00B\x01\x02", b"\x01\x01\x00Z\x01"]
)
def test_a_broken_row_of_costs_is_refused(row: bytes) -> None:
    """A row of another version or of the wrong length is an error, never a wrong median."""
    with pytest.raises(ValueError, match="row"):
        RecentCosts.from_bytes(row)


def test_negative_money_is_refused() -> None:
    """No spend and no cost is negative."""
    with pytest.raises(ValueError, match="negative"):
        HourlyHistory().close(NOW_MS, -1, False)
    with pytest.raises(ValueError, match="negative"):
        HourlyHistory().add_late(NOW_MS, -1)
    with pytest.raises(ValueError, match="negative"):
        RecentCosts().add(-1)
