"""Hours in which runs finished: what a row of them holds, however often one was written before."""

from random import Random

import pytest

from models.baselines.run_hours import KEPT_MS, RunHours
from schemas.duration import HOUR_MS
from tests.support.messages import MONDAY_MS


@pytest.mark.parametrize("seed", range(10))
def test_a_row_is_the_same_whether_others_were_written_before(seed: int) -> None:
    """Runs come late, hours are skipped, and old ones go: the row follows from what was taken in alone."""
    rng = Random(seed)
    written, silent = RunHours(), RunHours()
    now_ms = MONDAY_MS
    for _ in range(300):
        now_ms += rng.choice([0, 60_000, HOUR_MS, 3 * HOUR_MS])
        at_ms, log_cost = now_ms - rng.choice([0, 0, 5 * HOUR_MS, KEPT_MS + HOUR_MS]), rng.randrange(30_000)
        written.add(at_ms, log_cost)
        silent.add(at_ms, log_cost)
        row = written.to_bytes()
        assert RunHours.from_bytes(row).to_bytes() == row, seed
    assert written.to_bytes() == silent.to_bytes(), seed
    assert written.start_of_last(1) == silent.start_of_last(1)
