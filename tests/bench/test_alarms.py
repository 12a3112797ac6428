"""The default policy on a small company: nobody is woken for nothing, and what is planted is found."""

import pytest

from models.detectors import REGISTRY
from tests.bench.alarms import detectors, run_seed

SCALE = 0.25


@pytest.mark.timeout(900)
def test_hardly_a_page_without_a_fault_and_no_fault_without_a_word() -> None:
    """Four weeks with weekends, nights, a holiday, a launch, a step and a nightly batch; then each planted fault.

    A company this small is lumpy: one dear run may be most of its hour. At the size that the bench has by itself there
    is no page at all (decision 57).
    """
    told, faults = run_seed(1, SCALE)
    pages = [
        f"{name}: {summary}" for name, severity, summary in told.alerts.values() if severity in ("critical", "error")
    ]
    assert told.events > 100_000
    assert len(pages) <= 2, f"seed 1, {told.events} events: {pages}"
    assert len(told.alerts) <= 20, f"seed 1: {sorted(told.alerts.values())}"
    assert [fault for fault, found in faults.items() if not found] == []


def test_every_detector_has_its_line() -> None:
    """Whoever adds one finds it in the table without adding it."""
    assert set(detectors()) == {detector.name for detector in REGISTRY.values()}
