"""A process that was frozen notices before it acts on what it believes."""

import time

import pytest

from streams import clock
from streams.clock import BrokerClock
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


def test_a_machine_that_slept_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The monotonic clock of Linux stands still while the machine sleeps. Who wakes must not send what others have
    sent meanwhile, and knows the brokers' time all the same.
    """
    slept_ms = 0
    real = time.clock_gettime_ns
    monkeypatch.setattr(time, "clock_gettime_ns", lambda which: real(which) + slept_ms * 1_000_000)
    told: list[int] = []
    heartbeat, brokers = Heartbeat(10_000, told.append), BrokerClock()
    brokers.heard(clock.wall_ms())
    heartbeat.touch()
    heartbeat.check()
    assert not told
    before_ms = brokers.now_ms()
    slept_ms = 3_600_000
    heartbeat.check()
    assert told
    assert brokers.now_ms() - before_ms >= slept_ms
