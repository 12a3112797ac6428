"""A worker that was away gives kills late: what was done before they went out is nobody's disobedience."""

from models.engine import Engine
from models.rules.policy import read_policy_toml
from models.state.rows import read_key
from models.stimuli import Ticked, UsageSeen
from schemas.alert import Alert
from schemas.control import Command
from schemas.usage import LlmCall
from tests.support.messages import MINUTE_MS, MONDAY_MS, SECOND_MS, llm_call

POLICY = """
version = "late"
ack_deadline_seconds = 60
[[cap]]
name = "run-cost"
limit_usd = 5
thresholds = [1.0]
at_limit = "kill"
mode = "enforce"
"""
OUT_MS = MONDAY_MS + 5 * MINUTE_MS
"""When the worker commits; it happened five minutes before."""


def call(after_ms: int) -> LlmCall:
    return llm_call(MONDAY_MS + after_ms, run_id="r1", usd=5, owner="ana", workflow="docs")


def told(engine: Engine) -> list[str]:
    """Rules of the alerts that are published now."""
    return [each.value.rule for each in engine.drain_effects() if isinstance(each.value, Alert)]


def behind() -> Engine:
    """An engine whose worker has been away: it takes in a kill's cause and four minutes of calls after it in one go."""
    engine = Engine(read_policy_toml(POLICY), commands_go_out_at_once=False)
    for minute in range(5):
        message = call(minute * MINUTE_MS)
        engine.handle(UsageSeen(message, message.ts_ms))
    return engine


def test_calls_from_before_the_kill_went_out_page_nobody() -> None:
    """The kill is published with the batch, and neither calls nor silence until then say that it was disobeyed."""
    engine = behind()
    engine.go_out(OUT_MS)
    effects = engine.drain_effects()
    [command] = [each.value for each in effects if isinstance(each.value, Command)]
    assert (command.action, command.issued_ms) == ("kill", MONDAY_MS)
    assert {each.value.rule for each in effects if isinstance(each.value, Alert)} == {"run-cost"}


def test_calls_from_after_it_went_out_page_as_ever() -> None:
    """From then on it has half a minute, as every kill has; so it is after a restart."""
    engine = behind()
    engine.go_out(OUT_MS)
    engine.drain_effects()
    restored = Engine(engine.policy, commands_go_out_at_once=False)
    restored.restore({key: value for key, value in engine.drain_rows() if value is not None})
    for one in (engine, restored):
        for after_ms, rules in ((5 * MINUTE_MS + 20_000, []), (5 * MINUTE_MS + 40_000, ["spending-after-kill"])):
            one.handle(UsageSeen(call(after_ms), MONDAY_MS + after_ms))
            assert told(one) == rules


def test_an_answer_is_due_since_the_kill_went_out() -> None:
    """Nobody acknowledges it within a minute of that: told then, not before."""
    engine = behind()
    engine.go_out(OUT_MS)
    engine.drain_effects()
    for now_ms, rules in ((OUT_MS + 59 * SECOND_MS, []), (OUT_MS + 61 * SECOND_MS, ["spending-after-kill"])):
        engine.handle(Ticked(now_ms))
        assert told(engine) == rules


def test_rows_say_when_it_went_out() -> None:
    """It is written with the command itself, in the same transaction."""
    engine = behind()
    engine.go_out(OUT_MS)
    engine.drain_effects()
    assert "command" in {read_key(key)[0] for key, _ in engine.drain_rows()}
    assert [command.out_ms for command in engine.standing()] == [OUT_MS]
