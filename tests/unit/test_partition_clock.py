"""Time where nothing comes in, under clocks of hosts that are wrong: by the clock port, without waiting."""

import pytest

from models.effects import Effect
from models.rules.policy import Policy, read_policy
from schemas.codec import encode
from schemas.control import Command
from streams import clock
from streams.clock import BrokerClock, PartitionClock
from streams.worker.fence import Fence, read_fence, write_fence
from streams.worker.partition import Partition
from tests.support.messages import DAY_MS, HOUR_MS, MINUTE_MS, MONDAY_MS, SECOND_MS, llm_call

SLACK_MS = PartitionClock.SLACK_MS
AHEAD = [0, 55 * MINUTE_MS, -55 * MINUTE_MS, -30 * DAY_MS]


class Clocks:
    """What time it is: truly, for the brokers, by a host's wall clock that may be wrong, and by its monotonic one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ms = MONDAY_MS
        self.host_ahead_ms = 0
        self._booted_ms = MONDAY_MS - HOUR_MS
        monkeypatch.setattr(clock, "wall_ms", lambda: self.now_ms + self.host_ahead_ms)
        for name in ("monotonic_ms", "sleepless_ms"):
            monkeypatch.setattr(clock, name, lambda: self.now_ms - self._booted_ms)

    def on_host(self, ahead_ms: int) -> BrokerClock:
        """The brokers' clock as it is known to a worker that starts now on a host whose own is so much ahead."""
        self.host_ahead_ms = ahead_ms
        self._booted_ms = self.now_ms - SECOND_MS
        brokers = BrokerClock()
        brokers.heard(self.now_ms)
        return brokers


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    """Monday, midnight."""
    return Clocks(monkeypatch)


class Record:
    """A record of usage.v1 as the client hands it out."""

    def __init__(self, offset: int, ts_ms: int, run_id: str, tenant_id: str = "acme") -> None:
        self._offset, self._ts_ms, self._tenant_id = offset, ts_ms, tenant_id
        self._value = encode(llm_call(ts_ms, tenant_id=tenant_id, run_id=run_id))

    def topic(self) -> str:
        return "usage.v1"

    def value(self) -> bytes:
        return self._value

    def key(self) -> bytes:
        return self._tenant_id.encode()

    def headers(self) -> None:
        return None

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, self._ts_ms


class Workers:
    """One partition, and the workers that have it one after another."""

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self._rows: dict[bytes, bytes] = {}
        self._fence: Fence | None = None
        self._read = 0
        self.killed: dict[str, int] = {}
        """Run -> when its kill was published, in true time."""
        self.take_over(0)

    def take_over(
        self, ahead_ms: int, policy: Policy | None = None, policy_ms: int = 0, *, told: bool = True, ends: bool = True
    ) -> None:
        """A worker on such a host goes on from the fence, and finds nothing to read.

        `told` is whether a broker tells it the time, `ends` whether it finds out that there is nothing left.
        """
        known = self._clocks.on_host(ahead_ms)
        brokers = known if told else BrokerClock()
        self._partition = Partition(
            0, 1, policy or longest(HOUR_MS), dict(self._rows), self._fence, policy_ms, brokers=brokers
        )
        if ends:
            self._partition.end_reached(self._read)
        self.commit()

    def read(self, run_id: str, tenant_id: str = "acme", ahead_ms: int = 0) -> None:
        """A run makes a call, on a host of its own whose clock is so much ahead."""
        self._partition.usage(Record(self._read, self._clocks.now_ms + ahead_ms, run_id, tenant_id))
        self._read += 1
        self._partition.end_reached(self._read)
        self.commit()

    def pass_time(self, length_ms: int, ticks: int = 10) -> None:
        """Nothing happens for so long, but that the worker ticks, and that its signs of life commit."""
        for _ in range(ticks):
            self._clocks.now_ms += length_ms // ticks
            self._partition.tick()
            self.commit()

    def commit(self) -> None:
        for effect in self._partition.engine.drain_effects():
            self._note(effect)
        for key, value in self._partition.engine.drain_rows():
            if value is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = value
        self._fence = read_fence(0, write_fence(self._partition.fence()), len(self._rows))

    def _note(self, effect: Effect) -> None:
        if isinstance(effect.value, Command):
            self.killed[effect.value.target.id] = self._clocks.now_ms


def longest(duration_ms: int, version: str = "v1") -> Policy:
    """Whoever runs for so long is killed."""
    cap = {"name": "c", "max_duration_s": duration_ms // 1000, "at_limit": "kill", "mode": "enforce"}
    return read_policy({"version": version, "cap": [cap]})


@pytest.mark.parametrize("before_ms", AHEAD)
@pytest.mark.parametrize("after_ms", AHEAD)
def test_whoever_takes_over_kills_a_run_when_it_is_due_and_no_sooner(
    clocks: Clocks, before_ms: int, after_ms: int
) -> None:
    """Row 41: a take-over by a clock 55 minutes ahead killed healthy runs; one that follows a clock that was behind did
    the same. The fence carries the brokers' time, whatever the hosts' clocks show.
    """
    workers = Workers(clocks)
    workers.take_over(before_ms)
    workers.read("r1")
    began_ms = clocks.now_ms
    workers.pass_time(5 * MINUTE_MS)
    clocks.now_ms += 2 * MINUTE_MS  # nobody is there
    workers.take_over(after_ms)
    workers.pass_time(52 * MINUTE_MS)
    assert workers.killed == {}
    workers.pass_time(2 * MINUTE_MS)
    assert set(workers.killed) == {"r1"}
    assert 0 <= workers.killed["r1"] - began_ms - HOUR_MS < MINUTE_MS


def test_time_that_passed_without_events_is_not_lost_in_a_take_over(clocks: Clocks) -> None:
    """A night in which nothing came, and a restart in the morning: the partition's time went back to its last record,
    so that what was due came as late as the night was long.
    """
    workers = Workers(clocks)
    workers.read("r1")
    workers.pass_time(50 * MINUTE_MS)
    workers.take_over(0)
    workers.pass_time(11 * MINUTE_MS)
    assert set(workers.killed) == {"r1"}


def test_time_while_nobody_was_there_counts_at_once(clocks: Clocks) -> None:
    """What fell due meanwhile is done by whoever comes, also behind a host whose clock shows an earlier time."""
    workers = Workers(clocks)
    workers.read("r1")
    clocks.now_ms += 3 * HOUR_MS
    workers.take_over(-55 * MINUTE_MS)
    workers.pass_time(10 * SECOND_MS)
    assert set(workers.killed) == {"r1"}


def test_a_worker_that_dies_as_soon_as_it_is_there_loses_no_time(clocks: Clocks) -> None:
    """What it commits before it has come to the end says what time it was given to go on from."""
    workers = Workers(clocks)
    workers.read("r1")
    clocks.now_ms += 3 * HOUR_MS
    workers.take_over(0, ends=False)
    workers.take_over(0)
    workers.pass_time(10 * SECOND_MS)
    assert set(workers.killed) == {"r1"}


def test_an_agents_clock_is_not_the_time_of_others(clocks: Clocks) -> None:
    """The broker takes records of up to five minutes ahead: the timers of all tenants of the partition came that much
    too early after one.
    """
    workers = Workers(clocks)
    workers.read("r1")
    workers.pass_time(56 * MINUTE_MS)
    workers.read("r2", "other", ahead_ms=5 * MINUTE_MS)
    workers.pass_time(3 * MINUTE_MS)
    assert workers.killed == {}
    workers.pass_time(2 * MINUTE_MS)
    assert set(workers.killed) == {"r1"}


@pytest.mark.parametrize("ahead_ms", AHEAD)
def test_a_policy_of_another_file_lets_no_time_pass(clocks: Clocks, ahead_ms: int) -> None:
    """A file's policy is in force since the host's now, and a restore under it fired all that was due until then."""
    workers = Workers(clocks)
    workers.read("r1")
    clocks.now_ms += 10 * MINUTE_MS
    workers.take_over(ahead_ms, longest(HOUR_MS, "v2"), policy_ms=clocks.now_ms + ahead_ms)
    assert workers.killed == {}


def test_an_old_log_keeps_its_own_time(clocks: Clocks) -> None:
    """What is read at the end of a log of last year goes on from there, at the pace of the clock, over take-overs."""
    old_ms = MONDAY_MS - 365 * DAY_MS
    time = PartitionClock(old_ms, kept_ms=MONDAY_MS)
    clocks.now_ms += MINUTE_MS
    time.carry(clocks.now_ms)
    time.end_reached()
    assert time.now_ms() == old_ms + MINUTE_MS - SLACK_MS
    time.record(old_ms + 30 * SECOND_MS)
    time.end_reached()
    clocks.now_ms += SECOND_MS
    assert time.now_ms() == old_ms + 31 * SECOND_MS - SLACK_MS


def test_what_is_left_to_read_goes_before_time_and_does_not_turn_it_back(clocks: Clocks) -> None:
    """After a take-over time stands at each record until all are read; then it is what it would be had somebody been
    there, although the last record came while nobody was.
    """
    time = PartitionClock(MONDAY_MS, kept_ms=MONDAY_MS)
    clocks.now_ms += HOUR_MS
    time.carry(clocks.now_ms)
    time.record(MONDAY_MS + 10 * MINUTE_MS)
    assert time.time_ms == MONDAY_MS + 10 * MINUTE_MS
    time.end_reached()
    clocks.now_ms += MINUTE_MS
    assert time.time_ms == MONDAY_MS + HOUR_MS + MINUTE_MS


def test_a_clock_that_was_kept_badly_never_passes_the_brokers(clocks: Clocks) -> None:
    """Fences of older versions carry their host's time: one that was an hour behind would let an hour too much pass."""
    time = PartitionClock(MONDAY_MS, kept_ms=MONDAY_MS - HOUR_MS)
    clocks.now_ms += MINUTE_MS
    time.carry(clocks.now_ms)
    time.end_reached()
    assert time.time_ms == clocks.now_ms


def test_a_new_partition_has_no_time_before_its_first_record(clocks: Clocks) -> None:
    """The brokers' time is no answer to what a log's first record will say."""
    time = PartitionClock()
    time.carry(clocks.now_ms)
    time.record(MONDAY_MS - DAY_MS)
    time.end_reached()
    assert time.time_ms == MONDAY_MS - DAY_MS


def test_a_host_clock_that_is_set_moves_nothing(clocks: Clocks) -> None:
    """Once told, the brokers' time goes on by the monotonic clock; what the wall shows is only compared with it."""
    brokers = clocks.on_host(0)
    clocks.now_ms += MINUTE_MS
    clocks.host_ahead_ms = -3 * HOUR_MS
    assert brokers.now_ms() == clocks.now_ms
    assert brokers.host_ahead_ms == -3 * HOUR_MS


def test_until_a_broker_tells_its_time_no_run_ends_early(clocks: Clocks) -> None:
    """On a cluster whose topics tell no time, what is due waits for as long as nobody was there."""
    workers = Workers(clocks)
    workers.read("r1")
    clocks.now_ms += 30 * MINUTE_MS
    workers.take_over(55 * MINUTE_MS, told=False)
    workers.pass_time(50 * MINUTE_MS)
    assert workers.killed == {}
    workers.pass_time(11 * MINUTE_MS)
    assert set(workers.killed) == {"r1"}
