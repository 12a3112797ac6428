"""Every scenario file, as written; and what must hold of any engine, checked over all of them."""

from pathlib import Path

import pytest

from models.detectors import REGISTRY
from tests.support.scenario import differences, load, play, scenario_files


@pytest.mark.parametrize("path", scenario_files(), ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    """What the file expects comes, in this order, and nothing else."""
    scenario = load(path)
    wrong = differences(scenario, play(scenario))
    assert not wrong, "\n".join(wrong)


def test_every_detector_has_a_scenario_in_which_it_fires() -> None:
    """A rule that no scenario sets off could be broken without anybody noticing."""
    fired = {alert.detector for path in scenario_files() for alert in play(load(path)).alerts()}
    assert {detector.name for detector in REGISTRY.values()} <= fired
