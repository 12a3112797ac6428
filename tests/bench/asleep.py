"""Memory and time of the rows of sleeping runs: a week of runs, of one tenant and of many."""

import time
from collections.abc import Callable, Iterator
from functools import partial

from models.state.units.asleep import AsleepRows
from schemas.duration import DAY_MS
from tests.bench.machine import in_fresh_process, resident_bytes
from tests.bench.report import Part

START_MS = 1_798_761_600_000
DAYS = 7
ID_BYTES = 36
ROW_BYTES = 110
SMALL_TENANTS = (1000, 10)
"""How many runs each of many small tenants has asleep."""
LOOKED_UP = 5
"""One of so many runs is looked up and woken: enough for every block to be written anew."""
STEP = 7_919
"""A prime: lookups go through all days."""


def measure(runs: int, rounds: int) -> Part:
    """Bytes per sleeping run beside its id and row, and what putting, finding and missing one costs."""
    part = Part("asleep", f"rows of {runs:,} sleeping runs, a fresh process")
    grown = [in_fresh_process(bytes_per_run, runs, 1) for _ in range(rounds)]
    part.add("one tenant: a run asleep, id and row included", "bytes", grown)
    part.add("of these neither id nor row", "bytes", [each - ID_BYTES - ROW_BYTES for each in grown])
    for each in SMALL_TENANTS:
        tenants = max(1, runs // each)
        grown = [in_fresh_process(bytes_per_run, runs, tenants) for _ in range(rounds)]
        part.add(f"tenants of {each:,}: a run asleep, id and row included", "bytes", grown)
    figures = [in_fresh_process(seconds, runs) for _ in range(rounds)]
    for name in figures[0]:
        part.add(name, "µs", [each[name] * 1e6 for each in figures])
    part.notes = [f"ids of {ID_BYTES} characters, rows of {ROW_BYTES} bytes, last messages evenly over {DAYS} days"]
    return part


def bytes_per_run(runs: int, tenants: int) -> float:
    """Memory per sleeping run, the runs shared out evenly."""
    _fill([AsleepRows()], 10_000)  # what is there once: numpy's and the interpreter's own pools
    before = resident_bytes()
    stores = [AsleepRows() for _ in range(tenants)]
    _fill(stores, runs)
    return (resident_bytes() - before) / runs


def seconds(runs: int) -> dict[str, float]:
    """CPU seconds per call of each kind, beside that many sleeping runs."""
    store, empty = AsleepRows(), AsleepRows()
    lookups = max(1, runs // LOOKED_UP)
    units = list(_units(runs))
    there = [units[number * STEP % runs][0] for number in range(lookups)]
    absent = [_run_id(runs + number) for number in range(lookups)]

    def put_all() -> None:
        for unit in units:
            store.put("run", *unit)

    figures = {"put": _timed(put_all) / runs}
    figures["hit"] = _timed(lambda: [store.peek("run", run_id) for run_id in there]) / lookups
    figures["miss"] = _timed(lambda: [store.peek("run", run_id) for run_id in absent]) / lookups
    figures["miss, none asleep"] = _timed(lambda: [empty.peek("run", run_id) for run_id in absent]) / lookups
    wakes = [_timed(partial(store.pop, "run", run_id)) for run_id in there]
    figures["wake"] = sum(wakes) / lookups
    figures["the longest of these, a block written anew"] = max(wakes)
    figures["nothing to expire"] = _timed(lambda: [store.expired(START_MS, 100) for _ in range(lookups)]) / lookups
    figures["the first one of a day to expire"] = _timed(lambda: store.expired(START_MS + DAY_MS, 1))
    expired: list[tuple[str, str, bytes]] = []
    took = _timed(lambda: expired.extend(store.expired(START_MS + DAY_MS, runs)))
    figures["expire"] = took / max(1, len(expired))
    return figures


def _timed(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _fill(stores: list[AsleepRows], runs: int) -> None:
    for number, (run_id, last_ms, row) in enumerate(_units(runs)):
        stores[number % len(stores)].put("run", run_id, last_ms, row)


def _units(runs: int) -> Iterator[tuple[str, int, bytes]]:
    for number in range(runs):
        row = number.to_bytes(8, "little") * (ROW_BYTES // 8 + 1)
        yield _run_id(number), START_MS + number * DAYS * DAY_MS // runs, row[:ROW_BYTES]


def _run_id(number: int) -> str:
    return f"run-{number:0{ID_BYTES - 4}x}"
