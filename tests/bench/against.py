"""The engine of this checkout beside that of another one: the same log, slice by slice in turn, in processor time.

    python -m tests.bench.against FOLDER [--events N] [--policies plain wide defaults FILE]

For "not slower than before": make a checkout of the commit before (`git worktree add FOLDER COMMIT`) and compare. The
second half of the log counts: before that runs are young, and workflows have no past. Both engines work on while the
machine does other things as well, so that the ratios hold where the microseconds do not; give FOLDER a copy of this
checkout to see by how much they differ with nothing changed.
"""

import argparse
import contextlib
import json
import pickle
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.engine import EVENT_RATE, NEW_HOUR_MS, POLICIES, WARM_UP, policy_file
from tests.bench.load import Shape, UsageLoad

ROOT = Path(__file__).resolve().parents[2]
JOB = Path(__file__).with_name("against_job.py")
LIVE_RUNS = 5_000
EVENTS = 240_000
SLICE = 500
"""Events that an engine takes at a time: about as many as a worker that keeps up has in a batch."""
DEFAULTS = "defaults"
"""The rules of an empty policy file: each checkout's own."""

Steps = dict[str, float]
"""Step -> microseconds an event; and the bytes of rows."""


def main() -> int:
    """Print, per policy and step, microseconds an event in both, and the ratio: medians over the slices."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.against", description=__doc__)
    parser.add_argument("folder", type=Path, help="the other checkout")
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument(
        "--policies", nargs="+", default=(*POLICIES, DEFAULTS),
        help=f"of the bench, {DEFAULTS} for those of an empty file, or a file that both can read",
    )  # fmt: skip
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log"
        warm_up = _write_log(log, options.events)
        empty = Path(scratch) / "empty.toml"
        empty.touch()
        for policy in options.policies:
            rules = empty if policy == DEFAULTS else policy_file(policy) if policy in POLICIES else Path(policy)
            folders = (options.folder.resolve(), ROOT)
            _print(policy, _measure(folders, rules.resolve(), log, warm_up, options.events // SLICE))
    return 0


def _write_log(path: Path, count: int) -> int:
    """Leave (value, append time) of every event in a file; returns how many come before anything is measured."""
    warm_up = WARM_UP * LIVE_RUNS
    start_ms = NEW_HOUR_MS - (warm_up + count // 4) * 1000 // EVENT_RATE  # the hour turns in the half that is left out
    load = UsageLoad(Shape(start_ms, EVENT_RATE, LIVE_RUNS))
    events = [(event.value, event.ts_ms) for event in (*load.opening(), *load.events(warm_up + count))]
    path.write_bytes(pickle.dumps(events))
    return len(events) - count


def _measure(folders: Sequence[Path], rules: Path, log: Path, warm_up: int, slices: int) -> list[list[Steps]]:
    """What each folder's engine took for each slice of the second half; whoever is first is so every other time."""
    with contextlib.ExitStack() as stack:
        jobs = [stack.enter_context(_job(folder, rules, log, warm_up)) for folder in folders]
        turns = [[_take_slice(job) for job in (jobs if number % 2 else jobs[::-1])] for number in range(slices)]
    in_order = [turn if number % 2 else turn[::-1] for number, turn in enumerate(turns)]
    return in_order[slices // 2 :]


@contextlib.contextmanager
def _job(folder: Path, rules: Path, log: Path, warm_up: int) -> Iterator[subprocess.Popen[str]]:
    """A process of that checkout that has taken what comes before the measurement."""
    command = [sys.executable, str(JOB), str(rules), str(log), str(warm_up), str(SLICE)]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdin is not None
        assert job.stdout is not None
        if job.stdout.readline().strip() != "ready":
            raise RuntimeError(f"the engine in {folder} did not get ready: what it says stands above")
        yield job
        job.stdin.close()


def _take_slice(job: subprocess.Popen[str]) -> Steps:
    assert job.stdin is not None
    assert job.stdout is not None
    job.stdin.write("\n")
    job.stdin.flush()
    line = job.stdout.readline()
    if not line:
        raise RuntimeError("an engine did not get through: what it says stands above")
    found: Steps = json.loads(line)
    return found


def _print(policy: str, pairs: list[list[Steps]]) -> None:
    for step in pairs[0][0]:
        other, ours = (statistics.median(pair[side][step] for pair in pairs) for side in (0, 1))
        ratio = statistics.median(pair[1][step] / pair[0][step] for pair in pairs if pair[0][step])
        unit = "  " if step == "bytes" else "us"
        print(f"{policy:8} {step:7} {other:7.2f} {unit} there {ours:7.2f} {unit} here   ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
