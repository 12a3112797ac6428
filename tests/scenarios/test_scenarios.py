"""Every scenario file, as written; and what must hold of any engine, checked over all of them."""

from dataclasses import replace
from pathlib import Path

import pytest

from alerting.receivers.slack.blocks import MOST_OF_A_HEADER
from alerting.rendering.render import headline
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


DOT = "\N{LARGE RED CIRCLE} "


def test_every_headline_is_read_whole() -> None:
    """What a rule says fits the header of a Slack message, beside names of usual length: nothing is cut or repeated."""
    opened = [
        (path.stem, f"{DOT}{headline(alert)}")
        for path in scenario_files()
        for alert in play(load(path)).alerts()
        if alert.state == "open"
    ]
    assert [(name, line) for name, line in opened if len(line) > MOST_OF_A_HEADER] == []


CHANGING = [path for path in scenario_files() if "policies." in path.read_text(encoding="utf-8")]
"""Those whose policy changes on the way."""


@pytest.mark.parametrize("path", CHANGING, ids=lambda path: path.stem)
def test_a_policy_published_while_no_worker_ran_is_obeyed_all_the_same(path: Path) -> None:
    """Whether a policy comes into force on the way or during a restart: the same alerts and commands follow."""
    scenario = load(path)
    swapped = {"policy": "restart", "restart": "policy"}
    series = [
        {**entry, "type": swapped[entry["type"]]} if entry["type"] in swapped and "policy" in entry else entry
        for entry in scenario.series
    ]
    wrong = differences(scenario, play(replace(scenario, series=series)))
    assert not wrong, "\n".join(wrong)
