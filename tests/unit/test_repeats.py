"""Commands that are written once more, and what the engine says to those that somebody else wrote."""

import pytest

from models.engine import Engine
from models.rules.policy import read_policy_toml
from models.stimuli import CommandForged, UsageSeen
from schemas.alert import Alert
from schemas.control import Command, Target
from tests.support.messages import MONDAY_MS, llm_call

POLICY = """
version = "repeats"
[[cap]]
name = "run-cost"
limit_usd = 5
at_limit = "kill"
mode = "enforce"
"""
RUN = Target("run", "r1")
DENIAL = "forged/abc"


@pytest.fixture
def engine() -> Engine:
    """One that has killed run r1 of tenant acme."""
    made = Engine(read_policy_toml(POLICY))
    call(made, 0, usd=6)
    return made


def call(engine: Engine, at_s: int, usd: float = 1, run: str = "r1") -> None:
    """A call of a run, so many seconds after the first."""
    at_ms = MONDAY_MS + 1000 * at_s
    message = llm_call(at_ms, usd=usd, tenant_id="acme", run_id=run, event_id=f"{run}-{at_s}")
    engine.handle(UsageSeen(message, at_ms))


def kill_of(engine: Engine) -> Command:
    """The kill that was decided."""
    [kill] = [one.value for one in engine.drain_effects() if isinstance(one.value, Command)]
    return kill


def test_a_kill_is_written_again_while_its_run_calls_on(engine: Engine) -> None:
    """Maybe its guard never heard of it: the same command, same id and seq, once a minute and not for what was under
    way; a repeat is no decision, so nothing is told or commanded anew.
    """
    kill = kill_of(engine)
    repeated = []
    for at_s in (10, 29, 31, 60, 90, 92):
        call(engine, at_s)
        repeated.append([one for one, _ in engine.drain_repeats()])
    assert [len(each) for each in repeated] == [0, 0, 1, 0, 0, 1]
    for (again,) in filter(None, repeated):
        assert (again.command_id, again.seq, again.action, again.target) == (kill.command_id, kill.seq, "kill", RUN)
    assert not any(isinstance(one.value, Command) for one in engine.drain_effects())


def test_a_forged_command_is_told_of_and_answered(engine: Engine) -> None:
    """With what stands, where something does; else with a word that nothing does. Both name what they answer, and a
    tenant is told of it once an hour.
    """
    kill = kill_of(engine)
    for target in (RUN, Target("workflow", "docs")):
        engine.handle(CommandForged("acme", target, "has deleted a command", DENIAL))
    (stands, on_whose_word), (nothing, _) = engine.drain_repeats()
    assert (stands.command_id, stands.seq, on_whose_word) == (kill.command_id, kill.seq, "engine")
    assert (nothing.action, nothing.target) == ("resume", Target("workflow", "docs"))
    assert [stands.cause_event_id, nothing.cause_event_id] == [DENIAL, DENIAL]
    [told] = [one.value for one in engine.drain_effects() if isinstance(one.value, Alert)]
    assert (told.rule, told.severity, told.evidence["target"]) == ("forged-command", "critical", "run/r1")


def test_what_is_said_of_a_stranger_is_nothing(engine: Engine) -> None:
    """The engine makes up no tenant because somebody has written its name."""
    kill_of(engine)
    engine.handle(CommandForged("stranger", RUN, "has deleted a command", DENIAL))
    assert (engine.drain_repeats(), engine.drain_effects(), list(engine.tenants)) == ([], [], ["acme"])


def test_commands_in_force_are_those_to_look_for(engine: Engine) -> None:
    """Those that have run out need not stand on the topic."""
    kill = kill_of(engine)
    assert [one.command_id for one in engine.standing()] == [kill.command_id]
    engine.repeat("acme", RUN)
    engine.repeat("acme", Target("run", "of which nothing is known"))
    assert [one.command_id for one, _ in engine.drain_repeats()] == [kill.command_id]
