"""`drift` over series of finished runs: a shift is told once, soon, with its cause; what is no shift is not told."""

from collections.abc import Callable
from random import Random

import pytest

from tests.support.messages import DAY_MS, HOUR_MS, MINUTE_MS
from tests.support.production import START_MS
from tests.support.run_series import V1, V2, Run, auto_code_rover, drift, drive

SEEDS = range(1, 101)
BEFORE, AFTER = 200, 100
STEP_MS = 10 * MINUTE_MS
HEALTHY_RUNS = 2_000


def two_versions(seed: int, times: float, second: tuple[str | None, ...] = V2) -> list[Run]:
    """Runs of one agent, and then of its next version at so many times the cost."""
    draw = Random(seed)
    before = [Run(auto_code_rover(draw)) for _ in range(BEFORE)]
    return [*before, *(Run(auto_code_rover(draw, times), second) for _ in range(AFTER))]  # type: ignore[arg-type]


@pytest.mark.parametrize(("times", "least"), [(1.61, 0.99), (1.35, 0.8)])
def test_a_dearer_version_is_told_once_within_sixty_runs(
    times: float, least: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of one real agent, +61 % and +35 % in the cost of a run; seeds 1 to 100. Nothing is told before."""
    found = []
    for seed in SEEDS:
        told = drive(two_versions(seed, times))
        assert len(told) <= 1, f"seed {seed}: told {len(told)} times"
        assert all(one.number >= BEFORE for one in told), f"seed {seed}: told before anything changed"
        found += [one.number - BEFORE + 1 for one in told if one.number < BEFORE + 60]
    share = len(found) / len(SEEDS)
    with capsys.disabled():
        half = sorted(found)[len(found) // 2]
        print(f"\n  +{times - 1:.0%}: {share:.0%} told within 60 runs, half of these within {half}")
    assert share >= least


@pytest.mark.parametrize("share", [2, 4])
def test_a_version_that_is_tried_on_some_of_the_runs_is_told_once(share: int) -> None:
    """Every second or fourth run has the new version, then all of them have: +61 % is told once, of those runs. Seeds 1
    to 40.
    """
    found = 0
    for seed in range(1, 41):
        draw = Random(seed)
        tried = [
            Run(auto_code_rover(draw, 1.61), V2) if number % share == 0 else Run(auto_code_rover(draw))
            for number in range(60 * share)
        ]
        runs = [*two_versions(seed, 1.0)[:BEFORE], *tried, *two_versions(seed, 1.61)[BEFORE:]]
        told = drive(runs)
        assert len(told) <= 1, f"seed {seed}: told {len(told)} times"
        found += bool(told) and told[0].number < BEFORE + len(tried)
        assert all(one.finding.evidence["changed_to"] == "v2" for one in told), f"seed {seed}"
        assert all(one.finding.evidence["runs_since"] <= 60 for one in told), f"seed {seed}"
    assert found >= 38, found


def test_a_model_that_every_twentieth_run_needs_is_no_drift() -> None:
    """A router sends the hard tasks to a dear model, which comes up for the first time after a while. Seeds 1 to 20."""
    for seed in range(1, 21):
        draw = Random(seed)
        runs = [
            Run(auto_code_rover(draw, 5.0), ("v1", "large", None, "prod"))
            if number > 100 and draw.random() < 0.05
            else Run(auto_code_rover(draw))
            for number in range(900)
        ]
        assert drive(runs) == [], f"seed {seed}"


def test_it_names_what_has_changed() -> None:
    """The prompt version, from which to which, since when, and what it has cost more."""
    [(_, finding)] = drive(two_versions(1, 1.61))
    assert {key: finding.evidence[key] for key in ("changed", "changed_from", "changed_to")} == {
        "changed": "prompt_version", "changed_from": "v1", "changed_to": "v2",
    }  # fmt: skip
    assert finding.evidence["extra_nanousd"] > 0
    assert finding.severity == "warning"
    assert "its prompt_version went from v1 to v2" in finding.summary


def test_a_cheaper_version_is_told_as_information() -> None:
    """Cheaper may be worse: somebody wants to know, and nobody is warned."""
    [(_, finding)] = drive(two_versions(1, 0.5))
    assert finding.severity == "info"
    assert "less" in finding.summary


def test_three_repeats_of_one_version_are_no_drift() -> None:
    """300 tasks three times over, seeds 1 to 100: nothing is told."""
    for seed in SEEDS[:30]:
        draw = Random(seed)
        assert drive(Run(auto_code_rover(draw)) for _ in range(900)) == [], f"seed {seed}"


def weekend(draw: Random, at_ms: int) -> float:
    return (3.0 if (at_ms - START_MS) % (7 * DAY_MS) >= 5 * DAY_MS else 1.0) * draw.lognormvariate(0, 0.6)


def night(draw: Random, at_ms: int) -> float:
    return (5.0 if at_ms % DAY_MS // HOUR_MS in (2, 3, 4) else 1.0) * draw.lognormvariate(0, 0.6)


HEALTHY: dict[str, Callable[[Random, int], float]] = {
    "AutoCodeRover": lambda draw, at_ms: auto_code_rover(draw),
    "s = 1.5": lambda draw, at_ms: draw.lognormvariate(0, 1.5),
    "s = 0.3": lambda draw, at_ms: draw.lognormvariate(0, 0.3),
    "heavy tails": lambda draw, at_ms: draw.paretovariate(1.1),
    "short and long runs": lambda draw, at_ms: draw.choice((1, 20)) * draw.lognormvariate(0, 0.3),
    "a few long runs": lambda draw, at_ms: (20 if draw.random() < 0.1 else 1) * draw.lognormvariate(0, 0.3),
    "dearer weekends": weekend,
    "a batch every night": night,
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_runs_are_no_drift(name: str) -> None:
    """Two weeks of runs, ten minutes apart, seeds 1 to 6: nothing is told."""
    for seed in range(1, 7):
        draw = Random(seed)
        runs = [Run(HEALTHY[name](draw, START_MS + number * STEP_MS)) for number in range(HEALTHY_RUNS)]
        told = drive(runs, at_ms=lambda number: START_MS + number * STEP_MS)
        assert told == [], f"seed {seed}: {[(one.number, one.finding.summary) for one in told]}"


def unexplained(seed: int, times: float = 2.0) -> list[Run]:
    """Runs over a week that cost so many times as much from run 500 on, and nobody knows why."""
    draw = Random(seed)
    return [Run(draw.lognormvariate(0, 0.6) * (times if number >= 500 else 1.0)) for number in range(650)]


def test_a_shift_that_nothing_explains_is_told_as_well() -> None:
    """A provider changes its model behind its name: twice the cost is told within 100 runs, 19 times of 20."""
    found = 0
    for seed in range(1, 41):
        told = drive(unexplained(seed))
        assert len(told) <= 1, f"seed {seed}"
        found += bool(told) and 500 <= told[0].number < 600
        assert all("changed" not in one.finding.evidence for one in told)
    assert found >= 38, found


def test_the_same_version_coming_back_ends_it() -> None:
    """Runs at the old version and the old cost: it is over, and that is not told as another drift."""
    draw = Random(3)
    runs = [*two_versions(3, 2.0), *(Run(auto_code_rover(draw), V1) for _ in range(60))]
    first, second = drive(runs, at_ms=lambda number: START_MS + number * MINUTE_MS)
    assert (first.finding.level, second.finding.level) == (1.0, 0.0)
    assert second.finding.window == first.finding.window


def test_values_that_alternate_are_no_change() -> None:
    """A canary that half of the runs go to changed once, when it came."""
    draw = Random(4)
    runs = [Run(auto_code_rover(draw), V2 if number >= 100 and number % 2 else V1) for number in range(400)]
    assert drive(runs) == []


@pytest.mark.parametrize(
    "make", [lambda seed: two_versions(seed, 1.61), unexplained, lambda seed: two_versions(seed, 1)]
)
def test_a_restart_changes_nothing(make: Callable[[int], list[Run]]) -> None:
    """Wherever it happens, and however often: the same is found at the same run, to the last figure."""
    for seed in range(1, 4):
        draw = Random(seed)
        runs = make(seed)
        straight = drive(runs)
        assert drive(runs, restart=lambda number, draw=draw: draw.random() < 0.1) == straight  # type: ignore[misc]
        assert drive(runs, restart=lambda number: number % 7 == 0) == straight


def test_a_level_below_the_floor_is_not_told() -> None:
    """Runs that cost a thousandth of a cent more are nobody's concern."""
    cheap = [Run(run.usd / 1e6, run.values) for run in two_versions(1, 1.61)]
    assert drive(cheap) == []
    assert drive(cheap, drift(min_usd=0)) != []
