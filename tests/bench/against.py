"""The engine of this checkout beside that of another one: the same log, in turn, in processor time.

    python -m tests.bench.against FOLDER [--rounds N] [--policies plain wide]

For "not slower than before": make a checkout of the commit before (`git worktree add FOLDER COMMIT`) and compare.
"""

import argparse
import json
import pickle
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.engine import EVENT_RATE, NEW_HOUR_MS, POLICIES, WARM_UP, policy_file
from tests.bench.load import Shape, UsageLoad

ROOT = Path(__file__).resolve().parents[2]
JOB = Path(__file__).with_name("against_job.py")
LIVE_RUNS = 10_000
EVENTS = 200_000
TIMEOUT_S = 300.0


def main() -> int:
    """Print, per policy and step, microseconds an event in both, and the ratio: medians over the rounds."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.against", description=__doc__)
    parser.add_argument("folder", type=Path, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=POLICIES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log"
        warm_up = _write_log(log)
        for policy in options.policies:
            pairs = [
                [_run(folder, policy, log, warm_up) for folder in (options.folder.resolve(), ROOT)]
                for _ in range(options.rounds)
            ]
            _print(policy, pairs)
    return 0


def _write_log(path: Path) -> int:
    """Leave (value, append time) of every event in a file; returns how many come before anything is measured."""
    warm_up = WARM_UP * LIVE_RUNS
    start_ms = NEW_HOUR_MS - (warm_up + EVENTS // 2) * 1000 // EVENT_RATE
    load = UsageLoad(Shape(start_ms, EVENT_RATE, LIVE_RUNS))
    events = [(event.value, event.ts_ms) for event in (*load.opening(), *load.events(warm_up + EVENTS))]
    path.write_bytes(pickle.dumps(events))
    return len(events) - EVENTS


def _run(folder: Path, policy: str, log: Path, warm_up: int) -> dict[str, float]:
    """Step -> microseconds an event, in a fresh process of that checkout."""
    command = [sys.executable, str(JOB), str(policy_file(policy)), str(log), str(warm_up)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"the engine in {folder} did not get through:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _print(policy: str, pairs: list[list[dict[str, float]]]) -> None:
    for step in pairs[0][0]:
        other, ours = (statistics.median(pair[side][step] for pair in pairs) for side in (0, 1))
        ratio = statistics.median(pair[1][step] / pair[0][step] for pair in pairs if pair[0][step])
        print(f"{policy:6} {step:8} {other:6.2f} us there {ours:6.2f} us here   ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
