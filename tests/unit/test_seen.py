"""Remembered event ids against a model made of two plain sets."""

import random

import pytest
import xxhash

from models.state import seen
from models.state.seen import GENERATION_MS, NewIds, SeenIds

SEED = 5


class PlainSeen:
    """The same promise, said with sets of whole ids."""

    def __init__(self) -> None:
        self.now: set[tuple[str, str]] = set()
        self.past: set[tuple[str, str]] = set()
        self.rotate_at_ms: int | None = None

    def add(self, tenant_id: str, event_id: str, now_ms: int) -> bool:
        """Whether the id is new."""
        if self.rotate_at_ms is None or now_ms >= self.rotate_at_ms:
            self.past, self.now = self.now, set()
            self.rotate_at_ms = now_ms + GENERATION_MS
        key = (tenant_id, event_id)
        if key in self.now or key in self.past:
            return False
        self.now.add(key)
        return True


class Log:
    """A changelog: rows under (generation, batch), deleted when a generation is dropped."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, int], NewIds] = {}
        self.batch = 0

    def write(self, ids: SeenIds) -> None:
        """What the worker does at the end of a batch."""
        for row in ids.take_new():
            self.batch += 1
            self.rows[row.generation, self.batch] = row
        for dropped in ids.dropped_generations():
            self.rows = {key: row for key, row in self.rows.items() if key[0] != dropped}

    def restore(self, rng: random.Random) -> SeenIds:
        """What the worker does at its start: rows in any order, some of them twice."""
        ids = SeenIds(SEED)
        rows = list(self.rows.values())
        rng.shuffle(rows)
        for row in rows + rows[:3]:
            ids.restore(*row)
        return ids


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
    ids, plain = SeenIds(SEED), PlainSeen()
    for place, event in enumerate(_events(rng, 30_000, step_ms)):
        assert ids.add(*event) == plain.add(*event), (seed, step_ms, place, event)
    assert len(ids) == len(plain.now) + len(plain.past)


@pytest.mark.usefixtures("_seal_at")
@pytest.mark.parametrize("step_ms", [100, 40_000])
def test_restored_midway_equals_never_stopped(step_ms: int) -> None:
    """Stopped at any batch and restored from its rows in any order, it answers and rotates as if never stopped."""
    seed = 32
    rng = random.Random(seed)
    ids, plain, log = SeenIds(SEED), PlainSeen(), Log()
    for place, event in enumerate(_events(rng, 12_000, step_ms)):
        assert ids.add(*event) == plain.add(*event), (seed, step_ms, place, event)
        if rng.random() < 0.02:
            log.write(ids)
            assert len({generation for generation, _ in log.rows}) <= 2
            if rng.random() < 0.2:
                ids = log.restore(rng)


def test_rotation_without_a_new_id_survives_a_restart() -> None:
    """A generation that began with a duplicate has a row too, so a restart does not begin it anew."""
    ids, log = SeenIds(SEED), Log()
    assert ids.add("acme", "a", 0)
    assert not ids.add("acme", "a", GENERATION_MS)
    log.write(ids)
    ids = log.restore(random.Random(0))
    assert not ids.add("acme", "a", 2 * GENERATION_MS - 1)
    assert ids.add("acme", "a", 2 * GENERATION_MS)


def test_an_id_is_remembered_for_at_least_an_hour() -> None:
    """Whenever in a generation an id came, it is known an hour later; after two hours of events it is forgotten."""
    for offset_ms in (0, 1, GENERATION_MS // 2, GENERATION_MS - 1):
        ids = SeenIds(SEED)
        ids.add("acme", "first", 0)
        assert ids.add("acme", "a", offset_ms)
        assert not ids.add("acme", "a", offset_ms + GENERATION_MS)
    ids = SeenIds(SEED)
    for hour in range(3):
        ids.add("acme", f"hour-{hour}", hour * GENERATION_MS)
    assert ids.add("acme", "hour-0", 2 * GENERATION_MS)


def test_time_going_back_changes_nothing() -> None:
    """An event with an older time neither rotates nor revives what was forgotten."""
    ids = SeenIds(SEED)
    assert ids.add("acme", "a", 10 * GENERATION_MS)
    assert ids.add("acme", "b", 0)
    assert not ids.add("acme", "a", 0)
    assert [row.generation for row in ids.take_new()] == [1]


def test_tenants_do_not_share_ids() -> None:
    """The same event id of two tenants is two events."""
    ids = SeenIds(SEED)
    assert ids.add("acme", "1", 0)
    assert ids.add("globex", "1", 0)
    assert ids.add("acme1", "", 0)


def test_new_ids_are_handed_out_once() -> None:
    """Each new id's hash is in one row, under the generation it was added in, little endian, seeded."""
    ids = SeenIds(SEED)
    assert ids.take_new() == []
    ids.add("acme", "a", 0)
    ids.add("acme", "a", 5)
    ids.add("acme", "b", GENERATION_MS)
    digests = [xxhash.xxh3_64_digest(b"acme\0" + event, seed=SEED)[::-1] for event in (b"a", b"b")]
    assert ids.take_new() == [NewIds(1, 0, digests[0]), NewIds(2, GENERATION_MS, digests[1])]
    assert ids.take_new() == []


def test_dropped_generations_are_told_once_and_rows_left_of_them_too() -> None:
    """A forgotten generation's number is told once; rows of it that a restore still finds are told again."""
    ids = SeenIds(SEED)
    rows = []
    for hour in range(4):
        ids.add("acme", str(hour), hour * GENERATION_MS)
        rows += ids.take_new()
    assert ids.dropped_generations() == [1, 2]
    assert ids.dropped_generations() == []
    for order in (rows, rows[::-1]):
        restored = SeenIds(SEED)
        for row in order:
            restored.restore(*row)
        assert restored.dropped_generations() == [1, 2]
        assert len(restored) == 2


def test_memory_stays_near_its_goal() -> None:
    """A hundred thousand remembered ids take at most 20 bytes each."""
    ids = SeenIds(SEED)
    for number in range(100_000):
        ids.add("acme", str(number), number * 50)
    assert ids.size_bytes() <= 20 * len(ids)


def test_a_broken_row_is_refused() -> None:
    """A row that is no whole number of hashes is an error."""
    with pytest.raises(ValueError, match="multiple"):
        SeenIds(SEED).restore(1, 0, b"1234567")
