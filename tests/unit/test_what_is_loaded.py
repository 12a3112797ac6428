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


TESTED = """
import sys
from models.baselines.page_hinkley import NOT_NEEDED, load_page_hinkley

finders = list(sys.meta_path)
test = load_page_hinkley()(min_instances=1)
for value in (0.0, 0.0, 100.0):
    test.update(value)
print(test.drift_detected, sys.meta_path == finders, type(sys) in {type(sys.modules[name]) for name in NOT_NEEDED})
print(*sys.modules)
import scipy.stats
print(scipy.stats.ks_2samp([1, 2], [1, 2]).statistic)
"""


def test_what_finds_shifts_is_loaded_without_what_its_package_names_beside_it() -> None:
    """Every worker loads it at its start. Ten times as long, with 70 MB, is what the rest of river's tests would take;
    whoever uses that rest in the same process finds it whole.
    """
    run = subprocess.run([sys.executable, "-c", TESTED], cwd=ROOT, capture_output=True, text=True, check=True)
    works, loaded, rest = run.stdout.splitlines()
    assert works == "True True False"
    assert {"scipy.stats._stats_py", "pandas", "river.datasets.phishing"}.isdisjoint(loaded.split())
    assert float(rest) == 0
