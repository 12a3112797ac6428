"""The rules about order, with their defaults, over real runs of agents they have not been made for."""

from typing import Any

import pytest

from models.detectors.base import SequenceDetector
from models.detectors.loops.cycle import Cycle, CycleSettings
from models.detectors.loops.error_streak import ErrorStreak, ErrorStreakSettings
from models.detectors.loops.no_progress import NoProgress, NoProgressSettings
from models.detectors.loops.refused_finish import RefusedFinish, RefusedFinishSettings
from models.detectors.loops.repeat import Repeat, RepeatSettings
from models.detectors.loops.retry_storm import RetryStorm, RetryStormSettings
from tests.support.agent_sessions import in_choosing_half
from tests.support.runs import drive_steps
from tests.support.trajectories import (
    FOLDER,
    Results,
    Trajectory,
    labelled_runs,
    lmcache_runs,
    tau_bench_runs,
    who_and_when_runs,
)

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="needs the real runs in ../shared/data, which are not here"),
]

LABELS_AFTER = 10
"""Steps after a page in which a label still speaks for it. Labels compare neighbouring steps only, so that a circle of
five calls is labelled where it stumbles, not where it closes. This number was chosen after the one page on a circle
(OpenHands, pylint-7228: page at step 88, label at step 92) had been looked at; runs not seen then are its test. The
strict count, of labels between the counted calls alone, is printed beside it."""

VIEWS: list[tuple[Results, bool]] = [("exact", False), ("digits_masked", False), ("unknown", False), ("unknown", True)]


def rules(*, trusted: bool = False) -> list[SequenceDetector[Any]]:
    trust: dict[str, Any] = {"trust_without_result": ["*"]} if trusted else {}
    return [
        Repeat(RepeatSettings(name="repeat", **trust)),
        Cycle(CycleSettings(name="cycle", **trust)),
        RetryStorm(RetryStormSettings(name="retry_storm")),
        ErrorStreak(ErrorStreakSettings(name="error_streak")),
        NoProgress(NoProgressSettings(name="no_progress")),
        RefusedFinish(RefusedFinishSettings(name="refused_finish")),
    ]


def pages(run: Trajectory, *, trusted: bool = False, level: float = 1.0) -> dict[str, range]:
    """Detector -> steps that its first page of the run counts: one page is one incident, as with the engine."""
    first: dict[str, range] = {}
    for at, detector, finding in drive_steps(rules(trusted=trusted), [call for _, call in run.steps]):
        if finding.level >= level and detector not in first:
            start = max(0, at + 1 - int(finding.value))
            first[detector] = range(run.steps[start][0], run.steps[at][0] + 1)
    return first


def labelled_as_repetition(run: Trajectory, steps: range, after: int = LABELS_AFTER) -> bool:
    """Whether a person saw a repetition between the first step a page counts and `after` steps after its last."""
    return run.labels is not None and "Repetition" in run.labels[steps.start : steps.stop - 1 + after]


@pytest.mark.parametrize(("results", "trusted"), VIEWS)
def test_pages_on_labelled_runs_are_right(results: Results, trusted: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """At least 95 of a hundred pages are near a repetition that a person saw, whatever the agent reports of results.

    Where results are known or trusted there must be pages to judge, and where they are neither, none at all: without
    results nothing is sure. There are few, so that what is printed says more than that this passes.
    """
    judged = [run for run in labelled_runs(results) if run.labels is not None]
    paged = {run.run_id: pages(run, trusted=trusted) for run in judged}
    verdicts = [labelled_as_repetition(run, steps) for run in judged for steps in paged[run.run_id].values()]
    strict = [labelled_as_repetition(run, steps, 0) for run in judged for steps in paged[run.run_id].values()]
    repeating = [run for run in judged if run.labels and "Repetition" in run.labels]
    told = {run.run_id: pages(run, trusted=trusted, level=0.5) for run in repeating}
    with capsys.disabled():
        print(
            f"\n  results {results}{', trusted' if trusted else ''}: {sum(verdicts)} of {len(verdicts)} pages right "
            f"(strictly {sum(strict)}), {len(judged)} runs judged"
        )
        for chosen in (True, False):
            half = [run.run_id for run in repeating if in_choosing_half(run.run_id) == chosen]
            counts = [sum(bool(found[run_id]) for run_id in half) for found in (paged, told)]
            print(
                f"    {'chosen on' if chosen else 'kept back'}: {len(half)} repeating runs, "
                f"{counts[0]} paged, {counts[1]} told"
            )
    assert bool(verdicts) == (results != "unknown" or trusted)
    assert sum(verdicts) >= 0.95 * len(verdicts), {run_id: found for run_id, found in paged.items() if found}


@pytest.mark.parametrize(("results", "trusted"), VIEWS)
def test_tau_bench_is_never_paged(results: Results, trusted: bool) -> None:
    """No page on any of 200 customer-service runs, even if results are masked, missing or taken on trust."""
    runs = tau_bench_runs(results)
    assert len(runs) == 200
    assert {run.run_id: pages(run, trusted=trusted) for run in runs if pages(run, trusted=trusted)} == {}


def test_runs_without_result_hashes_or_prompt_hashes_are_never_paged() -> None:
    """Sizes and arguments alone prove nothing: the traces have runs of 30 calls of one size that are work."""
    assert {run.run_id: pages(run) for run in lmcache_runs() if pages(run)} == {}


def test_teams_that_failed_without_going_in_circles_are_not_paged() -> None:
    """A wrong answer is not a loop."""
    assert {run.run_id: pages(run) for run in who_and_when_runs() if pages(run)} == {}
