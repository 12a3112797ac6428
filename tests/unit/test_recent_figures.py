"""Figures of the last finished runs: medians, spread, rows, bounds."""

from random import Random

import numpy as np
import pytest

from models.baselines.recent_figures import FIGURES_KEPT, RecentFigures
from models.state.spend.cohort import MOST_MODELS, Cohort
from models.state.spend.model_cohort import ModelCohort
from tests.support.messages import USD


def test_medians_are_those_of_the_newest() -> None:
    """Of each figure on its own, rounded down, against numpy on a seeded series."""
    draw, figures, rows = Random(7), RecentFigures(2), []
    for _ in range(3 * FIGURES_KEPT):
        rows.append((draw.randrange(10**6), draw.randrange(100)))
        figures.add(rows[-1])
        newest = np.array(rows[-FIGURES_KEPT:])
        assert [figures.median(place) for place in (0, 1)] == [int(m) for m in np.median(newest, axis=0)], "seed 7"
    assert len(figures) == FIGURES_KEPT


def test_the_multiple_follows_the_spread() -> None:
    """Equal figures have the base; a spread of a factor two on both sides exp(3.09 x 1.4826 x ln 2)."""
    figures = RecentFigures(2)
    for number in range(21):
        figures.add((100, (50, 100, 200)[number % 3]))
    assert figures.multiple(0, 2.0) == 2.0
    assert figures.multiple(1, 2.0) == pytest.approx(2 ** (3.09 * 1.4826), abs=1e-4)


def test_a_row_gives_back_what_was_written() -> None:
    """To the byte, and nothing else is read."""
    figures = RecentFigures(3)
    for number in range(5):
        figures.add((number, 10**12 * number, 0))
    row = figures.to_bytes()
    assert RecentFigures.from_bytes(row).to_bytes() == row
    for broken in (row[:-1], row + b"\0", b"\x07" + row[1:], b""):
        with pytest.raises(ValueError, match="row"):
            RecentFigures.from_bytes(broken)


@pytest.mark.parametrize("figures", [(1,), (1, 2, 3), (1, -1)])
def test_other_figures_are_refused(figures: tuple[int, ...]) -> None:
    """Too few, too many, or negative ones."""
    with pytest.raises(ValueError, match="figures"):
        RecentFigures(2).add(figures)


def test_a_workflow_is_known_by_so_many_models() -> None:
    """Names come from outside: one more model is compared with nothing."""
    cohort = Cohort("acme", "docs")
    known = [cohort.add_model(f"model {number}") for number in range(MOST_MODELS)]
    assert None not in known
    assert cohort.add_model("one more") is None
    assert cohort.add_model("model 0") is known[0]


def test_what_is_known_of_a_model_is_restored() -> None:
    """Its row holds all of it."""
    past = ModelCohort("acme", "docs", "opus")
    past.recent.add(USD)
    past.contexts.add((250, 1, 2, 3, 4, 5, 6))
    read = ModelCohort.read("acme", "docs", "opus", past.fields())
    assert (read.fields(), read.key_parts()) == (past.fields(), past.key_parts())
