"""A shift of what runs cost, at no known moment."""

from random import Random

import pytest
from river.drift import PageHinkley as RiversPageHinkley

from models.baselines.shift_watch import PageHinkley

SEED = 20261128


@pytest.mark.parametrize("round_", range(20))
def test_the_test_finds_what_rivers_finds(round_: int) -> None:
    """Value by value, on random series whose mean moves now and then, it begins and ends where river's does."""
    rng = Random(f"{SEED} {round_}")
    fewest, delta, threshold = rng.randint(1, 30), rng.uniform(0, 0.3), rng.uniform(0.5, 8)
    ours = PageHinkley(fewest, delta, threshold)
    rivers = RiversPageHinkley(min_instances=fewest, delta=delta, threshold=threshold, alpha=1.0)
    mean, found = 0.0, 0
    for number in range(800):
        if rng.random() < 0.02:
            mean = rng.uniform(-2, 2)
        value = rng.gauss(mean, 0.5)
        ours.update(value)
        rivers.update(value)  # type: ignore[no-untyped-call]
        assert ours.has_shifted == rivers.drift_detected, f"seed {SEED}, round {round_}, value {number}"
        found += ours.has_shifted
    assert found, f"seed {SEED}, round {round_}: nothing shifts"
