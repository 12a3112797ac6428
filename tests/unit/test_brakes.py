"""The brake's table of transitions."""

from typing import get_args

from models.commands.standing import STANDING, STRENGTH, TRANSITIONS, Brake, BrakeEvent, BrakeState


def test_a_standing_command_is_lifted_by_release_and_expiry_alone() -> None:
    """Neither an answer, nor a missed deadline, nor another order lets a stopped target go."""
    lifting = {
        event for (state, event), following in TRANSITIONS.items() if state in STANDING and following not in STANDING
    }
    assert lifting == {"release", "expire"}


def test_every_state_can_be_reached_and_ordered_from() -> None:
    """No state is a dead end: whatever became of the last command, another one can be given."""
    assert {"armed", *TRANSITIONS.values()} == set(get_args(BrakeState))
    assert {state for state, event in TRANSITIONS if event == "order"} == set(get_args(BrakeState))


def test_an_event_without_a_place_changes_nothing() -> None:
    """An answer to a command that was lifted does not put it in force again."""
    brake = Brake("acme", "run", "r1")
    for state in get_args(BrakeState):
        for event in get_args(BrakeEvent):
            brake.state = state
            moved = brake.move(event)
            assert moved == ((state, event) in TRANSITIONS)
            assert brake.state == TRANSITIONS.get((state, event), state)


def test_a_kill_gives_way_to_nothing() -> None:
    """It is the strongest of all commands."""
    assert max(STRENGTH, key=STRENGTH.__getitem__) == "kill"
