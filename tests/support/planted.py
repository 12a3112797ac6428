"""Faults planted into production-like traffic: what goes wrong with agents, each for an hour to some days."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from schemas.control import Target
from schemas.operator import OperatorMessage
from schemas.usage import LlmCall, ToolCall
from tests.support.messages import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, USD, kill
from tests.support.production import START_MS, Event, Production, Workflow, workflow_named

Faults = dict[str, Callable[[int, Random], Iterator[Event]]]


def _at(day: int, hour: int) -> int:
    return START_MS + day * DAY_MS + hour * HOUR_MS


def _more_runs(workflow: Workflow, day: int, hours: range, times: float, seed: Random) -> Iterator[Event]:
    """So many times as many runs as in the middle of a working day, on top."""
    made = Production(seed.randrange(2**30), name=f"planted-{workflow.name}")
    for hour in hours:
        for _ in range(round(workflow.runs_an_hour * times)):
            yield from made.run(workflow, _at(day, hour) + seed.randrange(HOUR_MS))


def _changed(workflow: Workflow, day: int, runs: int, times: float, seed: Random) -> Iterator[Event]:
    """The workflow's next runs at so many times their usual cost, in working hours."""
    made = Production(seed.randrange(2**30), name=f"changed-{workflow.name}")
    for number in range(runs):
        at_ms = _at(day + number // 80, 9) + number % 80 * 6 * MINUTE_MS
        yield from made.run(workflow, at_ms, times)


def _calls(day: int, run_id: str, count: int, **fields: Any) -> Iterator[Event]:
    """One run of acme's support that makes the same model call again and again, every twenty seconds."""
    for number in range(count):
        at_ms = _at(day, 11) + number * 20 * SECOND_MS
        call = {
            "model": "house-small", "input_tokens": 4_000 + number, "output_tokens": 200, "cost_nanousd": USD // 100,
            "prompt_hash": f"{run_id}-{number}", "latency_ms": 2_000, "workflow": "support", "owner": "cs",
        }  # fmt: skip
        yield (
            at_ms,
            LlmCall(event_id=f"{run_id}-{number}", ts_ms=at_ms, tenant_id="acme", run_id=run_id, **{**call, **fields}),
        )


def _tools(day: int, run_id: str, tools: str, count: int, **fields: Any) -> Iterator[Event]:
    """One run that uses these tools in turn, each time in the same way."""
    for number in range(count):
        at_ms = _at(day, 11) + number * 3 * SECOND_MS
        tool = tools[number % len(tools)]
        yield at_ms, ToolCall(
            event_id=f"{run_id}-{number}", ts_ms=at_ms, tenant_id="acme", run_id=run_id, workflow="support", owner="cs",
            tool=f"tool-{tool}", args_hash=tool, **{"result_hash": tool, "latency_ms": 300, **fields},
        )  # fmt: skip


def _dear_run(day: int, seed: Random) -> Iterator[Event]:
    made = Production(seed.randrange(2**30), name="dear")
    yield from made.run(workflow_named("intake", spread=0.1), _at(day, 14), times=120)


def _wide(day: int, seed: Random) -> Iterator[Event]:
    made = Production(seed.randrange(2**30), name="wide")
    for number in range(300):
        at_ms = _at(day, 8) + number * 2 * MINUTE_MS
        yield from made.run(workflow_named("support"), at_ms, times=seed.choice((0.1, 10.0)))
    yield from made.run(workflow_named("support"), _at(day + 1, 0))


FAULTS: Faults = {
    "ten times the runs for an hour": lambda day, seed: _more_runs(
        workflow_named("intake"), day, range(14, 15), 80, seed
    ),
    "a team's agents go on all night": lambda day, seed: _more_runs(workflow_named("coding"), day, range(8), 4, seed),
    "a day of four times the runs": lambda day, seed: _more_runs(
        workflow_named("contracts"), day, range(8, 19), 3.5, seed
    ),
    "a new prompt, runs cost 61 % more": lambda day, seed: _changed(
        workflow_named("contracts", prompt_version="v2"), day, 100, 1.61, seed
    ),
    "another model, runs cost 3 x": lambda day, seed: _changed(
        workflow_named("intake", models=("house-large",), prompt_version="v2"), day, 100, 3.0, seed
    ),
    "runs spread ten times as wide": _wide,
    "one run costs a hundred others": _dear_run,
    "the same tool call, the same result": lambda day, seed: _tools(day, "repeats", "a", 12),
    "two tool calls in turn": lambda day, seed: _tools(day, "cycles", "ab", 24),
    "a model call sent again and again": lambda day, seed: _calls(
        day, "resends", 8, prompt_hash="p", input_tokens=9_000
    ),
    "every call fails": lambda day, seed: _tools(
        day, "fails", "abcdefghijklmnopqrstuvwxyz", 26, status="error", result_hash=None
    ),
    "calls that nobody can price": lambda day, seed: _calls(
        day, "unpriced", 80, cost_nanousd=None, input_tokens=900_000, model="who-knows"
    ),
    "a reported cost of nothing": lambda day, seed: _calls(
        day, "contradicts", 80, cost_nanousd=0, input_tokens=500_000, model="gpt-4o"
    ),
    "a killed run goes on": lambda day, seed: _calls(day, "killed", 12),
}
"""What is planted -> the events that it adds on a day."""
KILLED = "a killed run goes on"


def order_for(name: str, day: int) -> tuple[int, OperatorMessage] | None:
    """What an operator does in the middle of a fault, with when; None for nothing."""
    if name != KILLED:
        return None
    at_ms = _at(day, 11) + MINUTE_MS
    return at_ms, kill(at_ms, Target("run", "killed"))


def slow_rise(seed: int) -> Iterator[Event]:
    """Four weeks of one workflow whose runs cost two percent more every day."""
    made = Production(seed, name="slow")
    workflow = workflow_named("intake", spread=0.4, usd=0.3)
    for day in range(28):
        for number in range(24):
            yield from made.run(workflow, _at(day, 8) + number * 20 * MINUTE_MS, times=1.02**day)
