"""What counts as a sign of life of a process."""

from itertools import pairwise

import pytest

from streams.kafka import state_reader
from streams.kafka.state_reader import StateReader
from streams.notifier.lag import Progress
from streams.settings import Settings

Look = tuple[dict[int, int], int, int]
"""Lag by partition, what waits, what was handled."""


@pytest.mark.parametrize(
    ("looks", "alive"),
    [
        pytest.param([({0: 0}, 0, 5), ({0: 0}, 0, 5)], True, id="nothing to do"),
        pytest.param([({}, 0, 0), ({}, 0, 0)], True, id="nothing owned"),
        pytest.param([({0: 7}, 0, 5), ({0: 7}, 0, 5)], False, id="a fetcher that stopped"),
        pytest.param([({0: 0}, 3, 5), ({0: 0}, 3, 5)], False, id="a teller that stopped"),
        pytest.param([({0: 7}, 3, 5), ({0: 7}, 3, 6)], True, id="behind, and working"),
        pytest.param([({0: 7}, 0, 5), ({0: 4}, 0, 5)], True, id="behind, and fetching"),
        pytest.param([({0: 0, 1: 2}, 0, 5), ({0: 0, 1: 2}, 0, 5)], False, id="one partition of several stands"),
        pytest.param([({0: 7}, 0, 5), ({0: 9}, 0, 5)], True, id="more comes in"),
    ],
)
def test_work_that_is_not_done_is_no_sign_of_life(looks: list[Look], alive: bool) -> None:
    """With something to do, only something done since the last look is one. New work only puts the moment off: what
    comes in without end and is never dealt with shows as lag.
    """
    progress = Progress()
    assert [progress.is_made(*look) for look in looks][-1] is alive


def test_every_answer_of_a_slow_broker_is_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker asks where each of its partitions ends before it reads them back: the answers of twelve, ten seconds
    each, are longer than a loop may stand still, and it was ended at each start.
    """
    now_s, beats = [0], [0]

    def slow(*_: object) -> tuple[int, int]:
        now_s[0] += 10
        return 0, 0

    monkeypatch.setattr(state_reader, "watermarks", slow)
    StateReader(Settings(kafka_bootstrap="127.0.0.1:1"), lambda: beats.append(now_s[0])).read(range(12))
    assert now_s == [120]
    assert max(later - earlier for earlier, later in pairwise(beats)) == 10
