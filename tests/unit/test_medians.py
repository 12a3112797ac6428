"""Medians and deviations, as their definitions have them."""

import statistics
from random import Random

import pytest

from models.baselines.medians import deviation, median_x2, middle

SEEDS = range(40)


@pytest.mark.parametrize("seed", SEEDS)
def test_as_the_definition_has_it(seed: int) -> None:
    """To the last bit, for few values and many, near to one another and far apart, and where many are the same."""
    rng = Random(seed)
    for count in (1, 2, 3, 4, 5, rng.randrange(6, 300)):
        spread = rng.choice([0, 1, 3, 1_000])
        ordered = sorted(rng.choice([rng.gauss(0, 1), rng.randrange(spread + 1), -7.5]) for _ in range(count))
        median = statistics.median(ordered)
        assert middle(ordered) == median, (seed, ordered)
        assert deviation(ordered) == statistics.median(abs(value - median) for value in ordered), (seed, ordered)


def test_twice_the_median_is_exact() -> None:
    """Also where its half is none of the values, and beyond what a float can hold."""
    assert median_x2([2**62 + 1, 1, 2**62]) == 2**63
    assert median_x2([2**62 + 1, 2**62]) == 2**63 + 1
    with pytest.raises(ValueError, match="no median"):
        median_x2([])
