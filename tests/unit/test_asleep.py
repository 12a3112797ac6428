"""Rows of sleeping units against a model made of one plain dict."""

import random
import tracemalloc
from collections.abc import Callable

import pytest
from xxhash import xxh3_64_intdigest

from models.state.units import asleep, asleep_stretch
from models.state.units.asleep import KINDS, AsleepRows
from models.state.units.asleep_stretch import MOST_NAME_BYTES, MOST_ROW_BYTES
from schemas.duration import DAY_MS

START_MS = 1_798_761_600_000
HASHES: dict[str, Callable[[bytes], int]] = {
    "honest": xxh3_64_intdigest,
    "few": lambda name: xxh3_64_intdigest(name) % 7,
    "one": lambda name: 2**64 - 1,
}
Taken = list[tuple[str, str, bytes]]


class PlainRows:
    """The same promises, kept by a dict and by sorting all of it every time."""

    def __init__(self) -> None:
        self.units: dict[tuple[str, str], tuple[int, bytes]] = {}

    def put(self, kind: str, unit_id: str, last_ms: int, row: bytes) -> None:
        """Put a unit to sleep."""
        self.units[kind, unit_id] = (last_ms, row)

    def pop(self, kind: str, unit_id: str) -> bytes | None:
        """Wake a unit."""
        return self.units.pop((kind, unit_id), (0, None))[1]

    def peek(self, kind: str, unit_id: str) -> bytes | None:
        """Look at a unit."""
        return self.units.get((kind, unit_id), (0, None))[1]

    def expired(self, before_ms: int, most: int) -> Taken:
        """Take what is older."""
        due = sorted((last_ms, *name) for name, (last_ms, _) in self.units.items() if last_ms < before_ms)
        return [(kind, unit_id, self.units.pop((kind, unit_id))[1]) for _, kind, unit_id in due[:most]]

    def oldest(self, most: int) -> Taken:
        """Take the oldest."""
        return self.expired(2**63, most)

    def rows(self, kind: str) -> list[tuple[str, bytes]]:
        """All of a kind."""
        of_kind = ((last_ms, name[1], row) for name, (last_ms, row) in self.units.items() if name[0] == kind)
        return [(unit_id, row) for _, unit_id, row in sorted(of_kind)]


class Life:
    """A seeded sequence of calls, made on both."""

    def __init__(self, seed: int, names: int, store: AsleepRows) -> None:
        self.rng = random.Random(seed)
        self.names = names
        self.store = store
        self.plain = PlainRows()
        self.now_ms = START_MS
        self.trace: list[object] = [seed]

    def step(self) -> None:
        """One call on both, and its answers compared."""
        rng = self.rng
        kind, unit_id = rng.choice(KINDS), f"ü-{rng.randrange(self.names)}"
        chance = rng.random()
        self.now_ms += rng.choice([0, 0, 1, DAY_MS // self.names])
        if chance < 0.6:
            last_ms = self.now_ms - rng.choice([0, 0, 1, rng.randrange(DAY_MS), rng.randrange(10 * DAY_MS)])
            unit = (kind, unit_id, last_ms, rng.randbytes(rng.randrange(40)))
            self.store.put(*unit)
            self.plain.put(*unit)
        elif chance < 0.8:
            self.same("pop", kind, unit_id)
        elif chance < 0.995:
            self.same("peek", kind, unit_id)
        elif chance < 0.998:
            self.same("expired", self.now_ms - rng.choice([0, 3, 7, 11]) * DAY_MS, rng.choice([0, 1, 3, 10**9]))
        else:
            self.same("oldest", rng.choice([0, 1, 3, len(self.plain.units) // 4]))
        assert len(self.store) == len(self.plain.units), self.trace

    def same(self, name: str, *arguments: object) -> None:
        """The same call on both gives the same."""
        expected, found = getattr(self.plain, name)(*arguments), getattr(self.store, name)(*arguments)
        assert found == expected, (*self.trace, name, arguments)

    def check_whole(self) -> None:
        """Everything that can be asked without changing anything."""
        for kind in KINDS:
            assert list(self.store.rows(kind)) == self.plain.rows(kind), self.trace


@pytest.fixture(params=["as shipped", "tiny"])
def _limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny limits: many stretches a day, blocks that are written anew all the time."""
    if request.param == "tiny":
        monkeypatch.setattr(asleep, "FEWEST_RECENT", 3)
        monkeypatch.setattr(asleep_stretch, "FEWEST_GONE", 0)
        monkeypatch.setattr(asleep_stretch, "STRETCH_UNITS", 20)


@pytest.mark.usefixtures("_limits")
@pytest.mark.parametrize(("names", "steps"), [(5, 5_000), (300, 10_000), (20_000, 20_000)])
@pytest.mark.parametrize("hashes", HASHES)
def test_answers_as_a_dict_would(names: int, steps: int, hashes: str) -> None:
    """Every answer equals the plain dict's, also when ids share their hashes, come late, again or in one moment."""
    if hashes != "honest":
        names, steps = min(names, 300), min(steps, 5_000)  # lookups go through all that share the hash
    life = Life(names, names, AsleepRows(HASHES[hashes]))
    for number in range(steps):
        life.step()
        if number % (steps // 20) == 0:
            life.check_whole()
    life.check_whole()
    life.same("oldest", 10**9)
    life.check_whole()


def _week(rng: random.Random, count: int) -> list[tuple[str, str, int, bytes]]:
    """Units of a week, a third of them in the same few milliseconds."""
    return [
        (
            rng.choice(KINDS),
            f"unit-{number}",
            START_MS + rng.choice([rng.randrange(7 * DAY_MS), DAY_MS - 1 + rng.randrange(3)]),
            rng.randbytes(20),
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_restored_in_another_order_it_answers_the_same(seed: int) -> None:
    """What comes out depends on what is held: not on the order it came in, nor on rows that were replaced or woken."""
    rng = random.Random(seed)
    units = _week(rng, 3_000)
    first, second = AsleepRows(), AsleepRows()
    for unit in units:
        first.put(*unit)
    for kind, unit_id, _, _ in rng.sample(units, 500):
        second.put(kind, unit_id, START_MS + rng.randrange(7 * DAY_MS), b"to be replaced")
        second.put(kind, f"{unit_id}-woken", START_MS, b"to be woken")
    for unit in rng.sample(units, len(units)):
        second.put(*unit)
        second.pop(unit[0], f"{unit[1]}-woken")
    assert len(first) == len(second) == len(units)
    for kind in KINDS:
        assert list(first.rows(kind)) == list(second.rows(kind))
    assert first.oldest(700) == second.oldest(700)
    assert first.expired(START_MS + 3 * DAY_MS, 500) == second.expired(START_MS + 3 * DAY_MS, 500)
    assert first.oldest(len(units)) == second.oldest(len(units))
    assert len(first) == len(second) == 0


def test_batches_do_not_matter() -> None:
    """Taking one at a time gives in sum what taking all at once gives."""
    at_once, one_by_one = AsleepRows(), AsleepRows()
    for unit in _week(random.Random(1), 500):
        at_once.put(*unit)
        one_by_one.put(*unit)
    singles = []
    while single := one_by_one.oldest(1):
        singles += single
    assert singles == at_once.oldest(500)


def test_kinds_are_names_of_their_own() -> None:
    """A run and a session of the same id are two units."""
    rows = AsleepRows()
    rows.put("run", "a", START_MS, b"the run")
    rows.put("session", "a", START_MS, b"the session")
    assert rows.pop("tree", "a") is None
    assert rows.pop("run", "a") == b"the run"
    assert rows.pop("run", "a") is None
    assert rows.peek("session", "a") == b"the session"


@pytest.mark.parametrize("count", [1, 1_000])
@pytest.mark.parametrize(
    "unit_id", ["", "a", "\0", "a\0", "𝄞" * 128, "é", "e\u0301", "\ud800", "\uffff", "x" * (MOST_NAME_BYTES - 1)]
)
def test_any_text_is_an_id(unit_id: str, count: int) -> None:
    """Whatever text names a unit comes back as it was, among few and among many."""
    rows = AsleepRows()
    rows.put("run", unit_id, START_MS, b"row")
    for number in range(count):
        rows.put("run", f"other-{number}", START_MS + 1, b"")
    assert rows.peek("run", unit_id) == b"row"
    assert rows.oldest(1) == [("run", unit_id, b"row")]


def test_ids_of_one_moment_sort_by_code_point() -> None:
    """Ties are broken by kind, then id, however wide the characters are."""
    ids = ["", "Z", "a", "a\0", "é", "\ud800", "\uffff", "𝄞"]
    names = [(kind, unit_id) for kind in KINDS for unit_id in ids]
    for count in (0, 1_000):
        rows = AsleepRows()
        for number in range(count):
            rows.put("run", f"younger-{number}", START_MS + 1, b"")
        for kind, unit_id in reversed(names):
            rows.put(kind, unit_id, START_MS, b"")
        assert [(kind, unit_id) for kind, unit_id, _ in rows.oldest(len(names))] == names == sorted(names)


@pytest.mark.parametrize("last_ms", [-(2**62), -1, 0, DAY_MS - 1, DAY_MS, 2**62])
def test_any_time_is_a_time(last_ms: int) -> None:
    """A skewed clock's time, before 1970 or far ahead, expires when it is due and not before."""
    rows = AsleepRows()
    for number in range(100):
        rows.put("run", f"run-{number}", last_ms, b"row")
    assert rows.expired(last_ms, 1_000) == []
    assert len(rows.expired(last_ms + 1, 1_000)) == 100


@pytest.mark.parametrize("count", [3, 1_000])
@pytest.mark.parametrize("change", [("pop", "run", "run-2"), ("put", "tree", "new", START_MS, b""), ("oldest", 1)])
def test_rows_notices_a_change(count: int, change: tuple[object, ...]) -> None:
    """A unit that comes or goes while all are gone through ends it with an error: none is left out in silence."""
    rows = AsleepRows()
    for number in range(count):
        rows.put("run", f"run-{number}", START_MS + number, b"row")
    iterator = rows.rows("run")
    assert next(iterator) == ("run-0", b"row")
    getattr(rows, str(change[0]))(*change[1:])
    with pytest.raises(RuntimeError, match="make a list of it first"):
        next(iterator)


def test_a_day_may_outgrow_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one block cannot address goes into the day's next one: here with places of 16 bits instead of 32."""
    monkeypatch.setattr(asleep_stretch, "_PLACE_MASK", 0xFFFF)
    monkeypatch.setattr(asleep_stretch, "STRETCH_BYTES", 1 << 15)
    rows = AsleepRows()
    for number in range(3_000):
        rows.put("run", f"run-{number}", START_MS + number, b"%d" % number * 30)
    assert all(rows.peek("run", f"run-{number}") == b"%d" % number * 30 for number in range(3_000))
    assert rows.oldest(3_000) == [("run", f"run-{number}", b"%d" % number * 30) for number in range(3_000)]


def test_what_cannot_sleep_is_refused() -> None:
    """An unknown kind, and an id or row that the block cannot hold, are errors that name the limit."""
    rows = AsleepRows()
    with pytest.raises(ValueError, match="kinds are run, session, tree"):
        rows.put("workflow", "a", START_MS, b"")
    with pytest.raises(ValueError, match="1024 bytes; at most 1023"):
        rows.put("run", "é" * 512, START_MS, b"")
    with pytest.raises(ValueError, match=f"at most {MOST_ROW_BYTES}"):
        rows.put("run", "a", START_MS, bytes(MOST_ROW_BYTES + 1))
    assert len(rows) == 0
    rows.put("run", "a", START_MS, bytes(MOST_ROW_BYTES))
    assert rows.peek("run", "a") == bytes(MOST_ROW_BYTES)


def _grown(work: Callable[[], object]) -> tuple[int, object]:
    """Bytes that stay allocated after the work, and what keeps them."""
    tracemalloc.start()
    try:
        result = work()
        return tracemalloc.get_traced_memory()[0], result
    finally:
        tracemalloc.stop()


def _sleeping(count: int) -> AsleepRows:
    rows = AsleepRows()
    for number in range(count):
        last_ms = START_MS + number * 7 * DAY_MS // count
        rows.put("run", f"run-{number:032x}", last_ms, number.to_bytes(8, "little") * 13 + b"112233")
    return rows


SLEEPING = 38_000
"""As many as leave the most recent ones unsealed if only their bytes were counted."""


def test_a_sleeping_run_is_small() -> None:
    """With an id of 36 characters and a row of 110 bytes it takes less than 200 bytes."""
    grown, _ = _grown(lambda: _sleeping(SLEEPING))
    assert grown / SLEEPING < 200, grown


def test_what_woke_gives_its_room_back() -> None:
    """When three quarters woke, the others still take less than 200 bytes each."""

    def sleep_and_wake() -> AsleepRows:
        rows = _sleeping(SLEEPING)
        for number in range(SLEEPING * 3 // 4):
            rows.pop("run", f"run-{number * 3 % SLEEPING:032x}")
        return rows

    grown, rows = _grown(sleep_and_wake)
    assert isinstance(rows, AsleepRows)
    assert len(rows) == SLEEPING // 4
    assert grown / len(rows) < 200, grown


def test_units_that_come_and_go_leave_nothing_behind() -> None:
    """Runs that fall asleep again and again within a day take little more room than if they had done so once."""
    count = 1_000

    def come_and_go() -> AsleepRows:
        rows = AsleepRows()
        for number in range(count * 30):
            rows.put("run", f"run-{number % count:032x}", START_MS + number, bytes(110))
        return rows

    grown, rows = _grown(come_and_go)
    assert isinstance(rows, AsleepRows)
    assert len(rows) == count
    assert grown / count < 230, grown


def test_a_tenant_with_few_asleep_is_small() -> None:
    """A store with ten units takes less than 4 KB: there may be a hundred thousand such tenants."""
    grown, _ = _grown(lambda: _sleeping(10))
    assert grown < 4_000


def test_what_all_rows_begin_with_is_kept_once() -> None:
    """Rows come back whole, recent or sealed, whoever asks; a row that begins otherwise is refused."""
    rows = AsleepRows(beginning=b"asleep:")
    put = {f"run-{number}": b"asleep:" + bytes([number]) * 9 for number in range(100)}
    for number, (run_id, row) in enumerate(put.items()):
        rows.put("run", run_id, number, row)
    assert dict(rows.rows("run")) == put
    assert [rows.peek("run", run_id) for run_id in put] == list(put.values())
    assert rows.oldest(1) == [("run", "run-0", put["run-0"])]
    assert rows.pop("run", "run-99") == put["run-99"]
    with pytest.raises(ValueError, match="does not begin"):
        rows.put("run", "awake", 5, b"awake:1")
