"""Another policy is published while no worker runs: what follows is what would have followed in a running one."""

from collections.abc import Mapping
from random import Random

import pytest

from models.effects import Effect
from models.engine import Engine
from models.rules.policy import Policy
from models.stimuli import PolicyChanged
from tests.support.histories import Case, Changelog, Make, each_case, first_difference, random_case, reborn, written
from tests.support.policy_changes import CHANGES, changed

SEED = 20
SOME = 4
"""So many changes of policy happen in the course of a scenario."""


def moments(case: Case, kinds: list[str], draw: Random) -> dict[int, str]:
    """Number of a stimulus -> the kind of change that comes after it."""
    places = range(len(case.stimuli))
    return dict(zip(sorted(draw.sample(places, min(len(kinds), len(places)))), kinds, strict=False))


def running(case: Case, changes: Mapping[int, Policy]) -> list[list[bytes]]:
    """What comes out of an engine that never stops, from one change to the next."""
    engine = Engine(case.policy)
    parts: list[list[bytes]] = []
    for number, stimulus in enumerate(case.stimuli):
        engine.handle(stimulus)
        if (policy := changes.get(number)) is not None:
            parts.append(written(engine.take_effects()))
            engine.handle(PolicyChanged(policy))
    return [*parts, written(engine.take_effects())]


def restarting(case: Case, changes: Mapping[int, Policy], draw: Random) -> list[list[bytes]]:
    """What comes out if a worker stops before each change, and another one starts with the policy after it."""
    engine, changelog = Engine(case.policy), Changelog()
    parts: list[list[bytes]] = []
    effects: list[Effect] = []
    for number, stimulus in enumerate(case.stimuli):
        engine.handle(stimulus)
        if (policy := changes.get(number)) is not None:
            effects += engine.take_effects()
            parts.append(written(effects))
            effects = []
            engine = reborn(engine, changelog, policy, draw)
        elif draw.random() < 0.002:
            effects += engine.take_effects()
            engine = reborn(engine, changelog, engine.policy, draw)
    changelog.take(engine.take_rows())
    assert engine.digest == changelog.digest()
    return [*parts, written([*effects, *engine.take_effects()])]


def policies(case: Case, kinds: Mapping[int, str], draw: Random) -> dict[int, Policy]:
    """Every change as a policy: each of the one before."""
    policy, changes = case.policy, {}
    for number, stimulus in enumerate(case.stimuli):
        if isinstance(stimulus, PolicyChanged):
            policy = stimulus.policy
        if number in kinds:
            policy = changes[number] = changed(policy, kinds[number], draw)
    return changes


def check(case: Case, kinds: list[str], seed: int) -> None:
    """Fail at the first change after which a restart has made a difference."""
    draw = Random(seed)
    places = moments(case, kinds, draw)
    changes = policies(case, places, draw)
    expected, actual = running(case, changes), restarting(case, changes, draw)
    for kind, one, other in zip(["nothing", *places.values()], expected, actual, strict=True):
        assert one == other, f"seed {seed}, after {kind}: {first_difference(one, other)}"


@each_case
def test_some_changes_while_no_worker_runs(make: Make) -> None:
    """Whatever has happened, a policy taken up at a restart does what it would have done at once, byte for byte."""
    draw = Random(SEED)
    check(make(), draw.sample(sorted(CHANGES), SOME), SEED)


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_while_no_worker_runs(kind: str) -> None:
    """The same for each kind of change: there and back and there again, in the middle of everything."""
    case = random_case(SEED, 600)
    check(case, [kind] * 6, SEED)
