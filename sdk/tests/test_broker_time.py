"""An agent whose clock is ahead loses no spend: its records carry the broker's time, as far as refusals tell it."""

import random
from collections.abc import Callable

import pytest

from spendfuse._client import clock
from spendfuse._kafka import broker_time
from spendfuse._kafka.broker_time import BrokerTime

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
NOON_MS = 1_795_780_800_000


class Clocks:
    """The clock of this machine, the monotonic one, and the broker's, which refuses more than five minutes ahead."""

    def __init__(self, ahead_ms: int) -> None:
        self.broker_ms = NOON_MS
        self.ahead_ms = ahead_ms
        self.monotonic_ns = 1_000_000_000

    def wall_ms(self) -> int:
        """What this machine takes for the time."""
        return self.broker_ms + self.ahead_ms

    def pass_ms(self, elapsed_ms: int) -> None:
        """Let time pass for all of them."""
        self.broker_ms += elapsed_ms
        self.monotonic_ns += elapsed_ms * 1_000_000

    def send(self, time: BrokerTime, ts_ms: int | None = None) -> int | None:
        """Send a record, and return by how much its timestamp is ahead of the broker's clock; None if refused."""
        stamp = time.stamp(self.wall_ms() if ts_ms is None else ts_ms)
        self.pass_ms(10)
        if stamp.ms > self.broker_ms + 5 * MINUTE_MS:
            time.refused(stamp.behind_ms)
            return None
        time.accepted(stamp.behind_ms)
        return stamp.ms - self.broker_ms


Ahead = Callable[[int], Clocks]


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> Ahead:
    """A machine whose clock is ahead of the broker's by so many milliseconds."""

    def made(ahead_ms: int) -> Clocks:
        clocks = Clocks(ahead_ms)
        monkeypatch.setattr(clock, "wall_clock_ms", clocks.wall_ms)
        monkeypatch.setattr(broker_time.time, "monotonic_ns", lambda: clocks.monotonic_ns)
        return clocks

    return made


def sent_until_known(clocks: Clocks, time: BrokerTime) -> int:
    """Send until the first record is accepted that asks nothing; return how many were needed before."""
    for sent in range(1_000):
        if clocks.send(time) is not None and not time.is_searching:
            return sent
    raise AssertionError("never known")


@pytest.mark.parametrize("seed", range(20))
def test_what_the_broker_refuses_tells_its_time(ahead: Ahead, seed: int) -> None:
    """By whatever a clock is ahead, from six minutes to ten years, some sixty records find the broker's to a minute."""
    clocks = ahead(int(6 * MINUTE_MS * random.Random(seed).uniform(1, 10 * 365 * 240) ** random.Random(seed).random()))
    time = BrokerTime()
    assert sent_until_known(clocks, time) <= 60, clocks.ahead_ms
    for _ in range(100):
        clocks.pass_ms(MINUTE_MS)
        ahead_ms = clocks.send(time)
        assert ahead_ms is not None, clocks.ahead_ms
        assert abs(ahead_ms) <= MINUTE_MS, clocks.ahead_ms


@pytest.mark.parametrize("ahead_ms", [-HOUR_MS, 0, 4 * MINUTE_MS])
def test_a_clock_that_the_broker_takes_is_taken_as_it_is(ahead: Ahead, ahead_ms: int) -> None:
    """The event's own time is the record's, to the millisecond, and nothing is sent one by one."""
    clocks = ahead(ahead_ms)
    time = BrokerTime()
    assert clocks.send(time) == ahead_ms - 10
    assert clocks.send(time, NOON_MS - 30 * HOUR_MS) == -30 * HOUR_MS - 20
    assert not time.is_searching


def test_an_event_of_the_future_tells_nothing_of_the_clock(ahead: Ahead) -> None:
    """A record is stamped no later than it is sent: one absurd time moves no other record."""
    clocks = ahead(0)
    time = BrokerTime()
    assert clocks.send(time, 7_000_000_000_000) == -10
    assert not time.is_searching


def test_a_topic_that_refuses_the_past_is_not_asked_for_ever(ahead: Ahead) -> None:
    """Where no timestamp helps, the record is given up, and the next one goes as if nothing had been."""
    clocks = ahead(0)
    time = BrokerTime()
    stamp = time.stamp(NOON_MS - 48 * HOUR_MS)
    tries = 1
    while time.refused(stamp.behind_ms):
        stamp = time.stamp(NOON_MS - 48 * HOUR_MS)
        tries += 1
    assert tries < 20
    assert clocks.send(time) == -10


def test_a_clock_that_is_set_right_is_believed_again(ahead: Ahead) -> None:
    """What was found out holds until a clock jumps; then the events' own times are the records' again."""
    clocks = ahead(12 * HOUR_MS)
    time = BrokerTime()
    sent_until_known(clocks, time)
    clocks.ahead_ms = 0
    assert clocks.send(time) == -10


def test_a_clock_that_runs_away_is_found_out_again(ahead: Ahead) -> None:
    """A broker whose clock falls further behind refuses again, and is asked again."""
    clocks = ahead(6 * MINUTE_MS)
    time = BrokerTime()
    sent_until_known(clocks, time)
    for _ in range(100):
        clocks.ahead_ms += 50_000  # less at a time than a jump
        clocks.monotonic_ns += 50_000 * 1_000_000
        clocks.pass_ms(0)
        if clocks.send(time) is None:
            sent_until_known(clocks, time)
    ahead_ms = clocks.send(time)
    assert ahead_ms is not None
    assert ahead_ms <= 5 * MINUTE_MS
