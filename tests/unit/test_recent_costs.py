"""What the last runs of a workflow have cost, against numpy and plain lists."""

import math
import random

import numpy as np
import pytest

from models.baselines.hourly_history import MAX_NANOUSD
from models.baselines.recent_costs import RUNS_KEPT, RecentCosts


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


def test_a_negative_cost_is_refused() -> None:
    """No cost is negative."""
    with pytest.raises(ValueError, match="negative"):
        RecentCosts().add(-1)
