"""Restarts, rebalances and batches change nothing, whatever the rules."""

from random import Random

from models.effects import Effect
from models.engine import Engine
from models.stimuli import OperatorSeen, PolicyChanged, Stimulus, UsageSeen
from tests.support.histories import Case, Changelog, Make, each_case, each_case_with, first_difference, reborn, written

MOST_RESTARTED = 400
"""With a restart after every single thing that happens, so much of a history has to do."""


def restarted(case: Case, cuts: set[int], draw: Random) -> list[bytes]:
    """What comes out if the engine is thrown away at each cut and made anew from its rows."""
    engine, policy, changelog = Engine(case.policy), case.policy, Changelog()
    effects: list[Effect] = []
    for number, stimulus in enumerate(case.stimuli):
        engine.handle(stimulus)
        if isinstance(stimulus, PolicyChanged):
            policy = stimulus.policy
        if number in cuts:
            effects += engine.drain_effects()
            successor = reborn(engine, changelog, policy, draw)
            assert successor.digest == engine.digest, "the rows restored are not those that were written"
            assert not successor.has_effects, "a restart is no news"
            engine = successor
    changelog.take(engine.drain_rows())
    assert engine.digest == changelog.digest(), "the sum that proves the rows is not that of the rows"
    return written([*effects, *engine.drain_effects()])


@each_case_with("share", [0.003, 0.05, 1.0])
def test_restart_changes_nothing(make: Make, share: float) -> None:
    """Snapshot, restore and continue is the same as never having stopped, wherever it happens, byte for byte."""
    case = make()
    if share == 1.0 and len(case.stimuli) > MOST_RESTARTED:
        case = Case(case.policy, case.stimuli[:MOST_RESTARTED])
    draw = Random(len(case.stimuli))
    cuts = {number for number in range(len(case.stimuli)) if draw.random() < share} | {len(case.stimuli) // 2}
    expected, actual = case.straight(), restarted(case, cuts, draw)
    assert expected == actual, first_difference(expected, actual)


@each_case_with("size", [1, 7, 997])
def test_batches_change_nothing(make: Make, size: int) -> None:
    """However the stream is cut into batches, the same comes out in the same order."""
    case = make()
    engine = Engine(case.policy)
    effects: list[Effect] = []
    for number, stimulus in enumerate(case.stimuli):
        engine.handle(stimulus)
        if number % size == 0:
            effects += engine.drain_effects()
            engine.drain_rows()
    expected, actual = case.straight(), written([*effects, *engine.drain_effects()])
    assert expected == actual, first_difference(expected, actual)


@each_case
def test_duplicates_change_nothing(make: Make) -> None:
    """Every tenth message delivered twice counts once, and so does every order. One whose id another message had does
    not count at all: how often such a one came is what is told of it.
    """
    case = make()
    known: set[tuple[str, str]] = set()
    twice = [
        copy
        for number, stimulus in enumerate(case.stimuli)
        for copy in ([stimulus, stimulus] if _comes_twice(number, stimulus, known) else [stimulus])
    ]
    expected, actual = case.straight(), Case(case.policy, twice).straight()
    assert expected == actual, first_difference(expected, actual)


def _comes_twice(number: int, stimulus: Stimulus, known: set[tuple[str, str]]) -> bool:
    if not isinstance(stimulus, UsageSeen):
        return isinstance(stimulus, OperatorSeen)
    message_id = (stimulus.message.tenant_id, stimulus.message.event_id)
    is_first = message_id not in known
    known.add(message_id)
    return is_first and number % 10 == 0
