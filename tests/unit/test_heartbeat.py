"""A process that was frozen notices before it acts on what it believes."""

import pytest

from streams.notifier.heartbeat import Heartbeat


@pytest.mark.parametrize(
    ("beats_ms", "at_ms", "noticed"),
    [
        pytest.param([0, 500, 1000], 1500, False, id="alive"),
        pytest.param([0, 500], 10_500, False, id="slow, within what the group waits"),
        pytest.param([0, 500], 10_501, True, id="frozen, found out before it acts"),
        pytest.param([0, 500, 20_000], 20_001, True, id="frozen, found out by its next beat"),
    ],
)
def test_standing_still_is_noticed(beats_ms: list[int], at_ms: int, noticed: bool) -> None:
    """Silence longer than the limit is told, whether the next beat or the next act comes first."""
    now_ms = 0
    told: list[int] = []
    heartbeat = Heartbeat(10_000, told.append, lambda: now_ms)
    for beat_ms in beats_ms:
        now_ms = beat_ms
        heartbeat.touch()
    now_ms = at_ms
    heartbeat.check()
    assert bool(told) is noticed
