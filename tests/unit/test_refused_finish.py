"""refused_finish: a run that is made to go on each time it says that it is done, and all that only looks like it."""

from collections.abc import Iterable
from typing import Any

import pytest

from models.detectors.loops.refused_finish import RefusedFinish, RefusedFinishSettings
from models.engine import Engine
from models.rules.finding import Finding
from models.rules.policy import read_policy_toml
from models.stimuli import UsageSeen
from schemas.alert import Alert
from schemas.usage import LlmCall, ToolCall
from tests.support import messages
from tests.support.messages import MONDAY_MS
from tests.support.runs import drive

Call = ToolCall | LlmCall


def finish(at_s: float, tool: str = "task_done", **fields: Any) -> ToolCall:
    """A finishing call, with words of its own."""
    return ToolCall(
        event_id=f"f{at_s}", ts_ms=round(at_s * 1000), tenant_id="t", run_id="r", tool=tool, args_hash=f"words {at_s}",
        result_hash=f"no {at_s}", **fields,
    )  # fmt: skip


def think(at_s: float, **fields: Any) -> LlmCall:
    """A model call that ends at `at_s`."""
    fields = {"latency_ms": 2000, **fields}
    return LlmCall(event_id=f"m{at_s}", ts_ms=round(at_s * 1000), tenant_id="t", run_id="r", model="m", **fields)


def edit(at_s: float) -> ToolCall:
    return finish(at_s, "edit", writes=True)


def refused(times: int, **thoughts: Any) -> list[Call]:
    """Work, and a finishing call each minute, after which the run goes on at once."""
    calls: list[Call] = []
    for n in range(times):
        calls += [edit(n * 60 + 40), finish(n * 60 + 50), think(n * 60 + 55, input_tokens=9000 + n, **thoughts)]
    return calls


def found(calls: Iterable[Call], **settings: Any) -> list[Finding]:
    return drive([RefusedFinish(RefusedFinishSettings(name="refused", **settings))], calls)


def test_it_warns_at_the_third_and_pages_at_the_fifth() -> None:
    """Whatever the words are, and whatever is written between."""
    assert [(one.level, one.value) for one in found(refused(6))] == [(0.5, 3), (0.5, 4), (1.0, 5), (1.0, 6)]


def test_it_says_what_it_has_cost_since_the_first() -> None:
    """The dearest fault of all is told with its price."""
    findings = drive([RefusedFinish(RefusedFinishSettings(name="refused"))], refused(5), 500_000_000)
    assert findings[-1].summary == (
        "The run has called task_done 5 times and was made to go on each time; $6.00 spent since the first."
    )


def test_where_nobody_says_when_a_model_call_began_it_began_at_once() -> None:
    """A model that thinks for a minute is no person who answers."""
    calls: list[Call] = [each for n in range(5) for each in (finish(n * 90), think(n * 90 + 80, latency_ms=None))]
    assert [one.level for one in found(calls)] == [0.5, 0.5, 1.0]


def test_a_person_who_answers_takes_longer_than_ten_seconds() -> None:
    """Each turn of a conversation ends with the finishing tool."""
    calls: list[Call] = [each for n in range(9) for each in (finish(n * 90), think(n * 90 + 45, latency_ms=4000))]
    assert found(calls) == []
    slow_tool: list[Call] = [
        each for n in range(9) for each in (finish(n * 90 + 40, latency_ms=40_000), think(n * 90 + 44))
    ]
    assert found(slow_tool) == [], "the person's answer is the tool's result"


def test_a_new_piece_of_work_begins_with_a_smaller_context() -> None:
    """A worker that finishes one task after another is never refused."""
    calls: list[Call] = []
    for n in range(9):
        calls += [think(n * 60 + 3, input_tokens=2000), think(n * 60 + 40, input_tokens=8000), finish(n * 60 + 50)]
    assert found(calls) == []


def test_finishing_calls_of_one_answer_are_one() -> None:
    """A model that asks for the tool five times at once has been refused by nobody."""
    calls: list[Call] = [think(1), *[finish(2 + n / 10) for n in range(6)]]
    assert found(calls) == []


@pytest.mark.parametrize(
    ("tool", "finishes"),
    [
        ("finish", True), ("Submit", True), ("attempt_completion", True), ("task_complete", True),
        ("agent.finish", True), ("ExitPlanMode", False), ("submit_order", False), ("exit_code", False),
        ("finish_upload", False),
    ],
)  # fmt: skip
def test_which_tools_finish_is_policy(tool: str, finishes: bool) -> None:
    """By default those that common harnesses have; a pattern of the policy takes their place."""
    calls: list[Call] = [each for n in range(5) for each in (finish(n * 60, tool), think(n * 60 + 5))]
    assert bool(found(calls)) is finishes
    assert found(calls, tools=("nothing_else",)) == []
    assert found(calls, tools=("*",)) != []


def pages(*stimuli: Any) -> list[Alert]:
    engine = Engine(read_policy_toml('[[refused_finish]]\nname = "refused"'))
    for message in stimuli:
        engine.handle(UsageSeen(message, message.ts_ms))
    alerts = [one.value for one in engine.drain_effects() if isinstance(one.value, Alert)]
    return [alert for alert in alerts if alert.detector == "refused_finish" and alert.severity == "critical"]


def lived(at_s: int, *after: Any) -> list[Any]:
    """A finishing call, what comes of it, and that the run goes on at once."""
    at_ms = MONDAY_MS + at_s * 1000
    done = messages.tool_call(at_ms, tool="finish", args_hash=f"{at_s}")
    return [done, *[one(at_ms + 100) for one in after], messages.llm_call(at_ms + 3000, latency_ms=2000)]


def test_accepted_outputs_and_ends_were_taken() -> None:
    """An accepted output, and a run that had ended and is gone on with: neither was refused."""
    assert len(pages(*[each for n in range(6) for each in lived(n * 60)])) == 1
    assert pages(*[each for n in range(6) for each in lived(n * 60, messages.outcome)]) == []
    assert pages(*[each for n in range(6) for each in lived(n * 60, messages.run_finished)]) == []
