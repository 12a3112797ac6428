"""The table of what may follow what for the command of a target."""

from typing import get_args

from models.commands.standing import IN_FORCE, STRENGTH, TRANSITIONS, CommandEvent, CommandState, StandingCommand


def test_a_command_in_force_is_ended_by_lifting_and_expiry_alone() -> None:
    """Neither an answer, nor a missed deadline, nor another command lets a stopped target go."""
    ending = {
        event for (state, event), following in TRANSITIONS.items() if state in IN_FORCE and following not in IN_FORCE
    }
    assert ending == {"lift", "expire"}


def test_every_state_can_be_reached_and_commanded_from() -> None:
    """No state is a dead end: whatever became of the last command, another one can be given."""
    assert {"wanted", *TRANSITIONS.values()} == set(get_args(CommandState))
    assert {state for state, event in TRANSITIONS if event == "give"} == set(get_args(CommandState))


def test_an_event_without_a_place_changes_nothing() -> None:
    """An answer to a command that was lifted does not put it in force again."""
    command = StandingCommand("acme", "run", "r1")
    for state in get_args(CommandState):
        for event in get_args(CommandEvent):
            command.state = state
            moved = command.move(event)
            assert moved == ((state, event) in TRANSITIONS)
            assert command.state == TRANSITIONS.get((state, event), state)


def test_a_kill_gives_way_to_nothing() -> None:
    """It is the strongest of all commands."""
    assert max(STRENGTH, key=STRENGTH.__getitem__) == "kill"


def test_the_same_command_for_longer_is_news_and_for_less_is_not() -> None:
    """A day's pause goes before an hour's, whichever came first; nothing weaker ever replaces a stronger one."""
    command = StandingCommand("acme", "run", "r1")
    command.state, command.action, command.expires_ms = "given", "pause", 1_000
    assert command.covers("pause", 1_000, now_ms=10)
    assert command.covers("downgrade", 9_000, now_ms=10)
    assert not command.covers("pause", 1_001, now_ms=10)
    assert not command.covers("kill", 500, now_ms=10)
    assert not command.covers("pause", 1_000, now_ms=1_000)
