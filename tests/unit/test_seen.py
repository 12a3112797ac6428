"""Remembered event ids against a model made of two plain sets."""

import random

import pytest
import xxhash

from models.engine import Engine
from models.rules.policy import default_policy, read_policy
from models.state import seen
from models.state.rows import read_key
from models.state.seen import GENERATIONS_A_WINDOW, SEAL_AT, WINDOW_MS, NewIds, SeenIds
from models.state.seen_rows import SeenRows
from models.stimuli import PolicyChanged, UsageSeen
from tests.support.messages import HOUR_MS, MONDAY_MS, llm_call

SEED = 5
GENERATION_MS = WINDOW_MS // GENERATIONS_A_WINDOW


class PlainSeen:
    """The same promise, said with sets of whole ids: `(when it ended, what it holds)` of each generation."""

    def __init__(self, window_ms: int = WINDOW_MS) -> None:
        self.window_ms = window_ms
        self.now: set[tuple[str, str]] = set()
        self.past: list[tuple[int, set[tuple[str, str]]]] = []
        self.started_ms: int | None = None

    def add(self, tenant_id: str, event_id: str, now_ms: int) -> bool:
        """Whether the id is new."""
        if self.started_ms is None or now_ms >= self.started_ms + self.window_ms // GENERATIONS_A_WINDOW:
            self.past.append((now_ms, self.now))
            self.past = [each for each in self.past if each[0] + self.window_ms > now_ms]
            self.now, self.started_ms = set(), now_ms
        key = (tenant_id, event_id)
        if key in self.now or any(key in ids for _, ids in self.past):
            return False
        self.now.add(key)
        return True

    def __len__(self) -> int:
        return len(self.now) + sum(len(ids) for _, ids in self.past)


class Log:
    """A changelog: the newest value of every key."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.written = 0
        self.digest = 0

    def write(self, seen_rows: SeenRows) -> None:
        """What the worker does at the end of a batch."""
        records, change = seen_rows.take()
        self.written += len(records)
        self.digest += change
        for key, value in records:
            if value is None:
                del self.rows[key]
            else:
                self.rows[key] = value

    def generations(self) -> set[str]:
        """The numbers of those that have rows."""
        return {read_key(key)[1] for key in self.rows}

    def restore(self, rng: random.Random, window_ms: int = WINDOW_MS) -> SeenRows:
        """What the worker does at its start: rows in any order. The digests must add up to those written."""
        restored = SeenRows(window_ms)
        rows = list(self.rows.items())
        rng.shuffle(rows)
        assert sum(restored.restore(key, read_key(key), value) for key, value in rows) == self.digest
        assert len(restored) == len(rows)
        return restored


@pytest.fixture(params=[4, 64, 4096])
def _seal_at(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "SEAL_AT", request.param)


def _events(rng: random.Random, count: int, step_ms: int) -> list[tuple[str, str, int]]:
    """Ids with many repeats, near and far, at a time that mostly rises and sometimes jumps back or far ahead."""
    now_ms = rng.randrange(10**12)
    events = []
    for number in range(count):
        now_ms += rng.choice([0, 1, step_ms, -step_ms // 2])
        if rng.random() < 0.0001:
            now_ms += rng.choice([GENERATION_MS, 3 * GENERATION_MS])
        name = (
            number if rng.random() < 0.6 else rng.randrange(max(number - rng.choice([5, 500, 20_000]), 0), number + 1)
        )
        events.append((f"tenant-{name % 3}", f"event-{name}", now_ms))
    return events


@pytest.mark.usefixtures("_seal_at")
@pytest.mark.parametrize("step_ms", [10, 2_000, 40_000])
def test_answers_equal_plain_sets(step_ms: int) -> None:
    """New or not is answered as two sets of whole ids do, through sealing, merging, widening and rotation."""
    seed = 31
    rng = random.Random(seed)
    ids, plain = SeenIds(seed=SEED), PlainSeen()
    for place, event in enumerate(_events(rng, 30_000, step_ms)):
        assert ids.add(*event) == plain.add(*event), (seed, step_ms, place, event)
    assert len(ids) == len(plain)


@pytest.mark.usefixtures("_seal_at")
@pytest.mark.parametrize("step_ms", [100, 40_000])
def test_restored_midway_equals_never_stopped(step_ms: int) -> None:
    """Stopped at any batch and restored from its rows in any order, it answers, rotates and forgets as if never
    stopped.
    """
    seed = 32
    rng = random.Random(seed)
    rows, plain, log = SeenRows(), PlainSeen(), Log()
    unstopped, unstopped_log = SeenRows(), Log()
    for place, event in enumerate(_events(rng, 12_000, step_ms)):
        assert rows.ids.add(*event) == plain.add(*event), (seed, step_ms, place, event)
        unstopped.ids.add(*event)
        if rng.random() < 0.02:
            log.write(rows)
            unstopped_log.write(unstopped)
            assert log.generations() == unstopped_log.generations(), (seed, step_ms, place)
            assert len(log.generations()) <= 1 + len(plain.past)
            if rng.random() < 0.2:
                rows = log.restore(rng)


def test_a_restore_between_rotations_forgets_nothing_sooner() -> None:
    """After a gap a generation grows older than the window between two rotations; both forget it at the next one."""
    ids = SeenRows()
    log = Log()
    stopped_at, rotates_at = 3.2, 3.6
    for hours in (0, 1, 2.5):
        ids.ids.add("acme", str(hours), int(hours * HOUR_MS))
        log.write(ids)
    known = log.generations()
    restored = log.restore(random.Random(1))
    restored.ids.add("acme", "after the restore", int(stopped_at * HOUR_MS))
    log.write(restored)
    assert log.generations() == known
    restored.ids.add("acme", "after the rotation", int(rotates_at * HOUR_MS))
    log.write(restored)
    assert log.generations() == known - {"1"} | {"4"}


def test_rotation_without_a_new_id_survives_a_restart() -> None:
    """A generation that began with a duplicate has a row too, so a restart does not begin it anew."""
    rows, log = SeenRows(), Log()
    assert rows.ids.add("acme", "a", 0)
    assert not rows.ids.add("acme", "a", GENERATION_MS)
    log.write(rows)
    assert not log.restore(random.Random(0)).ids.add("acme", "a", GENERATION_MS + WINDOW_MS - 1)
    assert log.restore(random.Random(0)).ids.add("acme", "a", GENERATION_MS + WINDOW_MS)


@pytest.mark.parametrize("hours", [2, 5, 72])
def test_an_id_is_remembered_for_the_window(hours: int) -> None:
    """Whenever in a generation an id came, it is known a whole window later, a forked session's replay included; after
    one and a half windows of events it is forgotten.
    """
    window_ms = hours * HOUR_MS
    for offset_ms in (0, 1, window_ms // 4, window_ms // 2 - 1):
        ids = SeenIds(window_ms, SEED)
        ids.add("acme", "first", 0)
        assert ids.add("acme", "a", offset_ms)
        for now_ms in range(offset_ms, offset_ms + window_ms, HOUR_MS):
            ids.add("acme", f"at-{now_ms}", now_ms)
        assert not ids.add("acme", "a", offset_ms + window_ms)
    ids = SeenIds(window_ms, SEED)
    for now_ms in range(0, window_ms * 3 // 2, HOUR_MS // 2):
        ids.add("acme", f"at-{now_ms}", now_ms)
    assert ids.add("acme", "at-0", window_ms * 3 // 2)


@pytest.mark.parametrize("stop", [False, True])
def test_another_window_holds_from_now_on(stop: bool) -> None:
    """A longer one forgets nothing that is still known; a shorter one lets go what is older than it."""
    rows, log = SeenRows(2 * HOUR_MS), Log()

    def change(window_ms: int) -> SeenRows:
        if not stop:
            rows.ids.remember(window_ms)
            return rows
        log.write(rows)
        return log.restore(random.Random(1), window_ms)

    for hour in range(4):
        rows.ids.add("acme", f"hour-{hour}", hour * HOUR_MS)
    rows = change(12 * HOUR_MS)
    for hour in range(4, 14):
        rows.ids.add("acme", f"hour-{hour}", hour * HOUR_MS)
    assert not rows.ids.add("acme", "hour-2", 14 * HOUR_MS - 1)
    rows = change(2 * HOUR_MS)
    for hour in range(14, 17):
        rows.ids.add("acme", f"hour-{hour}", hour * HOUR_MS)
    assert rows.ids.add("acme", "hour-13", 16 * HOUR_MS)
    assert len(rows.ids) == 4


def test_rows_stay_few_however_many_batches_bring_ids() -> None:
    """A day of batches with one id each: the changelog keeps few rows of them, and writes each id about twice. Work
    per batch is that of its records: nothing looks at all that is there.
    """
    rows, log = SeenRows(72 * HOUR_MS), Log()
    batches, most = 40_000, 0
    for number in range(batches):
        rows.ids.add("acme", str(number), number * 2_000)
        before = log.written
        log.write(rows)
        most = max(most, log.written - before)
    assert len(rows) == len(log.rows) <= SEAL_AT + batches // SEAL_AT + 1
    assert log.written <= 2 * batches + batches // SEAL_AT
    assert most <= SEAL_AT + 1
    assert log.restore(random.Random(2)).ids.add("acme", "new", batches * 2_000)


def test_rows_of_a_state_written_before_are_gathered() -> None:
    """A state with thousands of rows for single batches is read, and its rows become few, none of them large."""
    rows = SeenRows()
    for number in range(200_000):
        key = f'["seen","1","{number}"]'.encode()
        hashes = number.to_bytes(8, "little")
        rows.restore(key, read_key(key), (0).to_bytes(8, "little") + bytes(8) + hashes)
    assert rows.ids.add("acme", "new", 1)
    records, _ = rows.take()
    assert len(rows) == 4
    assert max(len(value or b"") for _, value in records) <= 600_000


def test_time_going_back_changes_nothing() -> None:
    """An event with an older time neither rotates nor revives what was forgotten."""
    ids = SeenIds(seed=SEED)
    assert ids.add("acme", "a", 10 * GENERATION_MS)
    assert ids.add("acme", "b", 0)
    assert not ids.add("acme", "a", 0)
    assert [row.generation for row in ids.take_new()] == [1]


def test_tenants_do_not_share_ids() -> None:
    """The same event id of two tenants is two events."""
    ids = SeenIds(seed=SEED)
    assert ids.add("acme", "1", 0)
    assert ids.add("globex", "1", 0)
    assert ids.add("acme1", "", 0)


def test_new_ids_are_handed_out_once() -> None:
    """Each new id's hash is in one row, under the generation it was added in, little endian, seeded."""
    ids = SeenIds(seed=SEED)
    assert ids.take_new() == []
    ids.add("acme", "a", 0)
    ids.add("acme", "a", 5)
    ids.add("acme", "b", GENERATION_MS)
    digests = [xxhash.xxh3_64_digest(b"acme\0" + event, seed=SEED)[::-1] for event in (b"a", b"b")]
    assert ids.take_new() == [NewIds(1, 0, digests[0], sealed=True), NewIds(2, GENERATION_MS, digests[1])]
    assert ids.take_new() == []


def test_dropped_generations_are_told_once_and_rows_left_of_them_too() -> None:
    """A forgotten generation's number is told once; rows of it that a restore still finds are told again."""
    ids = SeenIds(seed=SEED)
    rows = []
    for hour in range(5):
        ids.add("acme", str(hour), hour * GENERATION_MS)
        rows += ids.take_new()
    assert ids.dropped_generations() == [1, 2]
    assert ids.dropped_generations() == []
    for order in (rows, rows[::-1]):
        restored = SeenIds(seed=SEED)
        for row in order:
            restored.restore(*row)
        restored.add("acme", "4", 4 * GENERATION_MS)
        assert restored.dropped_generations() == [1, 2]


def test_memory_stays_near_its_goal() -> None:
    """A hundred thousand remembered ids take at most 20 bytes each."""
    ids = SeenIds(seed=SEED)
    for number in range(100_000):
        ids.add("acme", str(number), number * 50)
    assert ids.size_bytes() <= 20 * len(ids)


def test_a_broken_row_is_refused() -> None:
    """A row that is no whole number of hashes is an error."""
    with pytest.raises(ValueError, match="multiple"):
        SeenIds(seed=SEED).restore(1, 0, b"1234567")


@pytest.mark.parametrize(("hours", "counted"), [(2, 2), (72, 1)])
@pytest.mark.parametrize("when", ["from the start", "changed to", "restored under"])
def test_the_policy_says_how_long_ids_are_known(hours: int, counted: int, when: str) -> None:
    """A forked session that replays its ids ten hours later counts once where the policy remembers so long."""
    policy, default = read_policy({"dedup_hours": hours}), default_policy()
    engine = Engine(policy if when == "from the start" else default)
    call = llm_call(MONDAY_MS, event_id="e1")
    engine.handle(UsageSeen(call, MONDAY_MS))
    if when == "changed to":
        engine.handle(PolicyChanged(policy, 0))
    if when == "restored under":
        rows = {key: value for key, value in engine.drain_rows() if value is not None}
        events = engine.counts.events
        engine = Engine(policy)
        engine.restore(rows)
        engine.counts.events = events
    for hour in range(1, 10):
        engine.handle(UsageSeen(llm_call(MONDAY_MS + hour * HOUR_MS), MONDAY_MS + hour * HOUR_MS))
    engine.handle(UsageSeen(call, MONDAY_MS + 10 * HOUR_MS))
    assert engine.counts.events - 9 == counted


def test_ids_are_hashed_with_a_secret_that_goes_with_the_state() -> None:
    """Who knows the program and not the secret cannot find two ids of one hash; after a restart, by whatever worker,
    what was seen is still known, for the secret is a row of the state.
    """
    engine, log = Engine(default_policy(), seed=2**64 - SEED), Log()
    event = UsageSeen(llm_call(MONDAY_MS, event_id="e1"), MONDAY_MS)
    engine.handle(event)
    log.rows = {key: value for key, value in engine.drain_rows() if value is not None}
    restored = Engine(default_policy(), seed=SEED)
    restored.restore(log.rows)
    assert (restored.seed, restored.digest) == (2**64 - SEED, engine.digest)
    restored.handle(event)
    assert (restored.counts.events, restored.counts.duplicates) == (0, 1)
    written = {read_key(key) for key, _ in restored.drain_rows()}
    assert ("seen", "seed") not in written, "it is written once"


def test_the_hash_of_an_id_depends_on_the_secret() -> None:
    """What was hashed under one secret is no hint at what another makes of it."""
    rows = []
    for seed in (SEED, SEED + 1):
        ids = SeenIds(seed=seed)
        ids.add("acme", "e1", 0)
        rows.append(ids.take_new()[-1].hashes)
    assert rows[0] != rows[1]
