"""`session_outlier`: runs against runs, sessions against sessions."""

from types import SimpleNamespace
from typing import Any

import pytest

from models.detectors.past.session_outlier import SessionOutlier, SessionOutlierSettings
from models.state.spend.cohort import Cohort
from tests.support.hourly import USD

FINISHED = 20


MODEL = "opus"


def unit(kind: str, usd: float, model: str | None = MODEL) -> Any:
    """As much of a run or session as the rule looks at."""
    return SimpleNamespace(unit_kind=kind, cost_nanousd=round(usd * USD), calls=3, main_model=lambda: model)


def cohort(runs: int, sessions: int) -> Cohort:
    """A workflow whose runs with one model cost one dollar, with others two, and whose sessions cost ten."""
    past = Cohort("acme", "docs")
    with_model = past.add_model(MODEL)
    assert with_model is not None
    for _ in range(runs):
        past.recent.add(USD)
        with_model.recent.add(USD)
    for _ in range(2 * runs):
        past.recent.add(2 * USD)
    for _ in range(sessions):
        past.sessions.add(10 * USD)
    return past


def rule(per: str, **settings: Any) -> SessionOutlier:
    return SessionOutlier(SessionOutlierSettings.model_validate({"name": "outlier", "per": per, **settings}))


@pytest.mark.parametrize(("per", "usual"), [("run", 1.0), ("session", 10.0)])
def test_like_is_compared_with_like(per: str, usual: float) -> None:
    """A session of many runs is dear by what sessions cost, and its runs by what runs cost."""
    past = cohort(FINISHED, FINISHED)
    watch = rule(per)
    assert list(watch.judge(unit(per, 5 * usual), past)) == []
    assert watch.trips(unit(per, 1), past) == {"cost_nanousd": round(5 * usual * USD) + 1}
    (finding,) = watch.judge(unit(per, 5.01 * usual), past)
    assert (finding.baseline, finding.evidence[f"finished_{per}s"]) == (usual * USD, FINISHED)
    assert finding.summary.endswith(f"of a {per}")


def test_a_run_is_compared_with_runs_of_its_model() -> None:
    """One of another model is compared with nothing, and with all of the workflow's where the policy asks for it."""
    past = cohort(FINISHED, FINISHED)
    assert list(rule("run").judge(unit("run", 1000, "haiku"), past)) == []
    (finding,) = rule("run", compare_by="workflow").judge(unit("run", 11, "haiku"), past)
    assert (finding.baseline, finding.evidence["finished_runs"]) == (2 * USD, 3 * FINISHED)


@pytest.mark.parametrize(
    ("per", "past"),
    [
        ("run", cohort(FINISHED - 1, FINISHED)),
        ("session", cohort(FINISHED, FINISHED - 1)),
        ("run", None),
        ("session", cohort(FINISHED, 0)),
    ],
)
def test_too_few_of_its_kind_say_nothing(per: str, past: Cohort | None) -> None:
    """However many of the other kind have finished; the unit is looked at again when its cost has doubled."""
    watch = rule(per)
    assert list(watch.judge(unit(per, 1000), past)) == []
    assert watch.trips(unit(per, 0.1), past) == {"cost_nanousd": USD}
    assert watch.trips(unit(per, 7), past) == {"cost_nanousd": 14 * USD}


def test_the_default_rule_says_what_it_compares() -> None:
    """Its name and what it watches agree."""
    (default,) = SessionOutlier.defaults
    assert default["name"] == f"{SessionOutlierSettings.model_validate(default).per}-5x"


def test_a_cohort_is_restored_with_both_kinds() -> None:
    """What its row holds is what it knew."""
    past = cohort(3, 5)
    restored = Cohort.read("acme", "docs", past.fields())
    assert [len(restored.recent_of(kind)) for kind in ("run", "session")] == [3 + 6, 5]
