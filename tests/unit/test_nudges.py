"""What agents are told of their loops: none taken for a replay, answered across restarts, in no command's place."""

from typing import Any

from models.engine import Engine
from models.rules.policy import read_policy_toml
from models.stimuli import OperatorSeen, UsageSeen
from schemas.alert import Alert
from schemas.control import Command, Target
from schemas.signing import is_standing
from tests.support import messages
from tests.support.messages import HOUR_MS, MONDAY_MS, SECOND_MS

NINE_MS = MONDAY_MS + 9 * HOUR_MS
POLICY = """
[[repeat]]
name = "again"
mode = "enforce"
[[error_streak]]
name = "fails"
notice_at = 3
"""


def call(number: int, **fields: Any) -> UsageSeen:
    """The same call with the same result, the nth second."""
    at_ms = NINE_MS + number * SECOND_MS
    return UsageSeen(messages.tool_call(at_ms, args_hash="a", result_hash="x", **fields), at_ms)


def published(engine: Engine) -> tuple[list[Command], list[Alert]]:
    """The commands and alerts since the last look; every command stands under the key of its kind."""
    effects = engine.drain_effects()
    for effect in effects:
        if isinstance(effect.value, Command):
            assert is_standing(effect.key.encode()) == (effect.value.action != "nudge")
    values = [effect.value for effect in effects]
    return [one for one in values if isinstance(one, Command)], [one for one in values if isinstance(one, Alert)]


def test_of_two_at_one_call_none_is_a_replay() -> None:
    """A guard takes only what has a higher number than the last; of the same thing nobody is told twice."""
    engine = Engine(read_policy_toml(POLICY))
    for number in range(4):
        engine.handle(call(number, status="error"))
    nudges, _ = published(engine)
    assert [nudge.rule for nudge in nudges] == ["fails", "again"]
    assert nudges[0].seq < nudges[1].seq
    assert len({nudge.command_id for nudge in nudges}) == 2


def test_an_answer_is_known_after_a_restart() -> None:
    """The worker that hears it is not the one that gave the nudge; a made-up id answers nothing."""
    engine = Engine(read_policy_toml(POLICY))
    for number in range(3):
        engine.handle(call(number))
    [nudge], _ = published(engine)
    rows = {key: value for key, value in engine.drain_rows() if value is not None}
    engine = Engine(read_policy_toml(POLICY))
    engine.restore(rows)
    for at_ms, command_id in ((NINE_MS + 2_200, "made up"), (NINE_MS + 2_300, nudge.command_id)):
        engine.handle(UsageSeen(messages.command_ack(at_ms, command_id, acted="delivered"), at_ms))
    for number in (3, 4):
        engine.handle(call(number))
    [kill], [alert] = published(engine)
    assert (kill.action, alert.state, alert.evidence["nudge_delivered_ms"]) == ("kill", "escalated", NINE_MS + 2_300)


def test_who_is_stopped_is_told_nothing() -> None:
    """It makes no call before which it could hear it."""
    engine = Engine(read_policy_toml(POLICY))
    engine.handle(call(0))
    engine.handle(OperatorSeen(messages.kill(NINE_MS + 500, Target("run", "run-1")), NINE_MS + 500))
    for number in (1, 2, 3):
        engine.handle(call(number))
    commands, _ = published(engine)
    assert {command.action for command in commands} == {"kill"}
