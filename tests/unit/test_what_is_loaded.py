"""What a process loads before it can work: whoever restarts one waits for it."""

import subprocess
import sys

import pytest

from tests.support.service_process import ROOT

WORKER = {"faust", "matplotlib", "river", "scipy", "slack_sdk"}
ALERTING = {"matplotlib", "river", "scipy", "slack_sdk"}


@pytest.mark.parametrize(
    ("process", "not_needed"), [("streams.worker.process", WORKER), ("streams.notifier.process", ALERTING)]
)
def test_a_process_loads_nothing_large_that_it_can_do_without(process: str, not_needed: set[str]) -> None:
    """Of each of these libraries the import costs a tenth of a second and more."""
    asked = f"import sys, {process}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not_needed.isdisjoint(loaded.stdout.split())


RUNS = """
import sys, threading
from models.baselines import cost_level, shift_watch

level = cost_level.CostLevel()
for number in range(shift_watch.SOON):
    shift_watch.last_alarm(level, "drift", 0, 50, 0.1, 100.0)
    print("river" in sys.modules)
    level.add(1_000_000, ("v1", "m", "r", "e"), number)
shift_watch.last_alarm(level, "drift", 0, 50, 0.1, 100.0)
for each in threading.enumerate():
    if each is not threading.main_thread():
        each.join()
print("river" in sys.modules)
"""


def test_what_finds_shifts_is_loaded_before_it_is_needed_and_not_sooner() -> None:
    """Most processes never judge a workflow's level: they pay nothing for the library of the test. Who comes near to it
    has it loaded in the background, before the first test is due: between two events nobody may wait for that.
    """
    run = subprocess.run([sys.executable, "-c", RUNS], cwd=ROOT, capture_output=True, text=True, check=True)
    *before, after = run.stdout.split()
    assert set(before) == {"False"}
    assert after == "True"
