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
