"""What is told of ids that say too little: another call's id, and copies that come too late to be known."""

import pytest

from models.engine import Engine
from models.rules.policy import read_policy_toml
from models.stimuli import UsageSeen
from schemas.alert import Alert
from schemas.usage import LlmCall, ToolCall
from tests.support.messages import HOUR_MS, MONDAY_MS, SECOND_MS, llm_call, run_finished, tool_call

NINE_MS = MONDAY_MS + 9 * HOUR_MS
POLICY = """
max_live_runs_per_tenant = 10
[[data_quality]]
name = "quality"
reused_ids = 1
sent_again_calls = 1
ignore = ["unattributed"]
"""


def told(engine: Engine) -> list[str]:
    """The data-quality incidents so far, by how they begin."""
    alerts = [effect.value for effect in engine.drain_effects() if isinstance(effect.value, Alert)]
    return [alert.summary for alert in alerts if alert.rule == "quality"]


def restarted(engine: Engine) -> Engine:
    """Another engine, made of all that this one has written."""
    other = Engine(read_policy_toml(POLICY))
    other.restore({key: value for key, value in engine.drain_rows() if value is not None})
    return other


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("asleep", [False, True])
@pytest.mark.parametrize(
    ("call", "is_told"),
    [
        (llm_call(NINE_MS, event_id="1"), False),
        (llm_call(NINE_MS + 2 * SECOND_MS, event_id="1", input_tokens=999), True),
        (tool_call(NINE_MS + 2 * SECOND_MS, event_id="1"), True),
        (run_finished(NINE_MS + 2 * SECOND_MS, event_id="1"), False),
    ],
    ids=["a copy", "another model call", "a tool call", "no call"],
)
def test_a_known_id_of_another_call_is_told(
    restart: bool, asleep: bool, call: LlmCall | ToolCall, is_told: bool
) -> None:
    """By what its run is known to have done, awake, asleep or restored; it counts in no case."""
    engine = Engine(read_policy_toml(POLICY))
    engine.handle(UsageSeen(llm_call(NINE_MS, event_id="1"), NINE_MS))
    append_ms = call.ts_ms + SECOND_MS
    if asleep:
        engine.handle(UsageSeen(llm_call(NINE_MS + 90 * 60 * SECOND_MS, run_id="other"), NINE_MS + 90 * 60 * SECOND_MS))
        append_ms = NINE_MS + 91 * 60 * SECOND_MS
    engine = restarted(engine) if restart else engine
    engine.handle(UsageSeen(call, append_ms))
    assert engine.counts.duplicates == 1
    assert bool(told(engine)) is is_told


@pytest.mark.parametrize("restart", [False, True])
def test_parts_of_one_answer_under_one_id_are_no_other_calls(restart: bool) -> None:
    """A source that sends an answer as it grows: each part is later, and of the same input."""
    engine = Engine(read_policy_toml(POLICY))
    engine.handle(UsageSeen(llm_call(NINE_MS, event_id="1", output_tokens=1), NINE_MS))
    engine = restarted(engine) if restart else engine
    engine.handle(UsageSeen(llm_call(NINE_MS + 900, event_id="1", output_tokens=50), NINE_MS + SECOND_MS))
    assert engine.counts.duplicates == 1
    assert told(engine) == []


def test_where_runs_are_too_many_to_be_known_nothing_is_told() -> None:
    """What is sent twice by a run that nobody watches looks like a new one's call."""
    engine = Engine(read_policy_toml(POLICY))
    for number in range(11):
        engine.handle(UsageSeen(llm_call(NINE_MS, event_id=f"{number}", run_id=f"r{number}"), NINE_MS))
    engine.handle(UsageSeen(llm_call(NINE_MS, event_id="10", run_id="r10"), NINE_MS + SECOND_MS))
    assert engine.counts.duplicates == 1
    assert told(engine) == []


@pytest.mark.parametrize("hours", [2, 6])
def test_a_late_copy_is_told_where_its_id_would_be_forgotten(hours: int) -> None:
    """With `dedup_hours` above the time after which a sender repeats it counts once, and there is nothing to tell."""
    engine = Engine(read_policy_toml(f"dedup_hours = {hours}\n{POLICY}"))
    call = llm_call(NINE_MS, event_id="1", usd=0.1)
    engine.handle(UsageSeen(call, NINE_MS))
    for hour in range(1, 6):
        engine.handle(UsageSeen(llm_call(NINE_MS + hour * HOUR_MS, run_id="other"), NINE_MS + hour * HOUR_MS))
    engine.handle(UsageSeen(call, NINE_MS + 5 * HOUR_MS))
    assert (engine.counts.duplicates, len(told(engine))) == ((0, 1) if hours < 5 else (1, 0))
