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
import sys
from models.baselines import cost_level, shift_watch
from models.state.spend.cohort import Cohort

cohort = Cohort("acme", "docs")
for number in range(shift_watch.SOON):
    shift_watch.last_alarm(cohort.level, "drift", 0, 50, 0.1, 100.0)
    print(shift_watch.is_expected())
    cohort.level.add(1_000_000, ("v1", "m", "r", "e"), number)
if sys.argv[1] == "judged":
    shift_watch.last_alarm(cohort.level, "drift", 0, 50, 0.1, 100.0)
else:
    Cohort.read("acme", "docs", cohort.fields())
print(shift_watch.is_expected(), "river" in sys.modules)
"""


@pytest.mark.parametrize("how", ["judged", "restored"])
def test_what_finds_shifts_is_asked_for_before_it_is_needed_and_not_sooner(how: str) -> None:
    """Most processes never judge a level, and pay nothing for the library of the test. Where a workflow comes
    near to it, or comes back so, the worker is told to load it beside its work.
    """
    run = subprocess.run([sys.executable, "-c", RUNS, how], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False"] * 10 + ["True", "False"]
