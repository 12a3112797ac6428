"""runs.v1: when a run is recorded, and what its record says."""

from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from random import Random
from typing import Any

import pytest

from models.engine import Engine
from models.rules.policy import read_policy_toml
from models.state.units.runs import RECORD_AT_LEAST_MS, RECORD_AT_MOST_MS, RECORD_WAIT_MS
from models.stimuli import OperatorSeen, Stimulus, Ticked, UsageSeen
from schemas.codec import decode_run, encode
from schemas.control import Command, Target
from schemas.run import NearestLimit, RunRecord
from schemas.usage import UsageMessage
from tests.support import messages
from tests.support.histories import Changelog
from tests.support.messages import DAY_MS, HOUR_MS, MINUTE_MS, MONDAY_MS, SECOND_MS, USD

NINE_MS = MONDAY_MS + 9 * HOUR_MS
NOTHING = 'version = "v1"\ninclude_defaults = false\n'
CAPS = """
version = "v1"
include_defaults = false
[[cap]]
name = "run-cost"
limit_usd = 10
[[cap]]
name = "session-calls"
per = "session"
max_calls = 8
[[cap]]
name = "tree-cost"
per = "run_tree"
limit_usd = 40
[[cap]]
name = "tried"
max_tool_calls = 1
mode = "shadow"
[[budget]]
name = "team-day"
group_by = ["tenant_id", "owner"]
period = "day"
limit_usd = 20
"""
KILLS = """
version = "v1"
include_defaults = false
[[cap]]
name = "run-cost"
limit_usd = 5
at_limit = "kill"
mode = "enforce"
"""
PAUSES = """
version = "v1"
include_defaults = false
[[budget]]
name = "tenant-day"
period = "day"
limit_usd = 5
at_limit = "pause"
mode = "enforce"
"""


class Runs:
    """An engine, and the records of runs that it has written."""

    def __init__(self, policy: str = NOTHING) -> None:
        self._policy = read_policy_toml(policy)
        self._engine = Engine(self._policy)
        self._changelog = Changelog()
        self.records: list[RunRecord] = []
        self.commands: list[Command] = []

    def take(self, *things: UsageMessage | Stimulus) -> list[RunRecord]:
        """Have things happen, usage messages at their own time. Returns the records that follow."""
        known = len(self.records)
        for thing in things:
            self._engine.handle(UsageSeen(thing, thing.ts_ms) if isinstance(thing, UsageMessage) else thing)
            for effect in self._engine.drain_effects():
                if isinstance(effect.value, RunRecord):
                    assert effect.key == effect.value.key
                    assert decode_run(encode(effect.value)) == effect.value
                    self.records.append(effect.value)
                elif isinstance(effect.value, Command):
                    self.commands.append(effect.value)
        return self.records[known:]

    def restart(self) -> None:
        """Go on from the changelog."""
        self._changelog.take(self._engine.drain_rows())
        self._engine = Engine(self._policy)
        self._engine.restore(self._changelog.rows)


def calls(start_ms: int, every_ms: int, lasts_ms: int, run_id: str = "run-1") -> list[UsageMessage]:
    """A model call again and again."""
    times = range(start_ms, start_ms + lasts_ms, every_ms)
    return [messages.llm_call(at_ms, usd=0.01, run_id=run_id) for at_ms in times]


def test_a_run_is_recorded_at_its_start_and_its_end() -> None:
    """With whose it is, what it has done, and how it ended."""
    runs = Runs()
    [start] = runs.take(messages.run_started(NINE_MS, workflow="docs", owner="ana", tags={"a": "b"}, session_id="s1"))
    assert (start.state, start.started_ms, start.workflow, start.owner) == ("live", NINE_MS, "docs", "ana")
    assert (start.tags, start.session_id, start.calls, start.model) == ({"a": "b"}, "s1", 0, None)
    call = messages.llm_call(NINE_MS + 100, usd=2, model="m", agent="writer", attempt=2)
    assert not runs.take(call, messages.tool_call(NINE_MS + 200, cost_nanousd=USD))
    [end] = runs.take(messages.run_finished(NINE_MS + 300, status="failed"))
    assert (end.state, end.status, end.ended_ms) == ("finished", "failed", NINE_MS + 300)
    assert (end.calls, end.tool_calls, end.cost_nanousd, end.retried_nanousd) == (1, 1, 3 * USD, 2 * USD)
    assert (end.input_tokens, end.output_tokens, end.context_tokens, end.retries) == (1000, 100, 1000, 1)
    assert (end.model, end.agent, end.workflow, end.ts_ms) == ("m", "writer", "docs", NINE_MS + 300)


@pytest.mark.parametrize("every_ms", [250, 1500, 3 * SECOND_MS, 20 * SECOND_MS])
def test_a_run_that_changes_is_recorded_within_half_a_minute_and_not_more_often_than_promised(every_ms: int) -> None:
    """However often its messages come: never twice within ten seconds, and what it has come to is never older than the
    longest interval and the wait for its next message.
    """
    runs = Runs()
    seen: list[tuple[int, int]] = []
    for call in calls(NINE_MS, every_ms, 10 * MINUTE_MS):
        runs.take(call)
        seen.append((call.ts_ms, runs.records[-1].ts_ms))
    times = [record.ts_ms for record in runs.records]
    assert min(later - earlier for earlier, later in pairwise(times)) >= RECORD_AT_LEAST_MS
    assert max(at_ms - told_ms for at_ms, told_ms in seen) <= RECORD_AT_MOST_MS + RECORD_WAIT_MS + SECOND_MS
    assert len(times) <= 30


def test_what_came_last_is_recorded_soon_where_nothing_follows() -> None:
    """Once; silence is no news after that."""
    runs = Runs()
    runs.take(*calls(NINE_MS, SECOND_MS, 3 * SECOND_MS))
    [last] = runs.take(Ticked(NINE_MS + RECORD_AT_LEAST_MS + RECORD_WAIT_MS))
    assert (last.calls, last.ts_ms) == (3, NINE_MS + RECORD_AT_LEAST_MS + RECORD_WAIT_MS)
    assert not runs.take(Ticked(NINE_MS + 20 * MINUTE_MS))


def test_two_messages_of_one_moment_are_both_recorded() -> None:
    """Also where the first of them had the run recorded, and the worker starts again behind the second."""
    for restarts in (False, True):
        runs = Runs()
        runs.take(messages.llm_call(NINE_MS, usd=1), messages.llm_call(NINE_MS, usd=1))
        if restarts:
            runs.restart()
        assert [record.calls for record in runs.take(Ticked(NINE_MS + MINUTE_MS))] == [2]


def test_the_pace_is_the_same_across_restarts() -> None:
    """Whenever the worker starts again, the same records follow at the same times."""
    draw = Random(12)
    traffic: list[UsageMessage | Stimulus] = []
    at_ms = NINE_MS
    for _ in range(150):
        at_ms += draw.choice((0, 1, 40, 900, 4_000, 21_000))
        traffic.append(messages.llm_call(at_ms, usd=0.01, run_id=f"run-{draw.randrange(3)}"))
        if draw.random() < 0.1:
            traffic.append(Ticked(at_ms + draw.randrange(3_000)))
    straight, restarting = Runs(), Runs()
    straight.take(*traffic)
    for thing in traffic:
        restarting.take(thing)
        restarting.restart()
    assert restarting.records == straight.records


def test_a_second_finish_and_a_call_behind_the_end() -> None:
    """What is said of an ended run twice changes nothing. A run that goes on is live again, with what it had."""
    runs = Runs()
    runs.take(messages.llm_call(NINE_MS, usd=1), messages.run_finished(NINE_MS + 1))
    runs.take(messages.run_finished(NINE_MS + 2, status="failed"), Ticked(NINE_MS + 30 * SECOND_MS))
    assert {(record.status, record.ended_ms) for record in runs.records[1:]} == {("completed", NINE_MS + 1)}
    [again] = runs.take(messages.llm_call(NINE_MS + MINUTE_MS, usd=1))
    assert (again.state, again.status, again.ended_ms, again.cost_nanousd) == ("live", None, None, 2 * USD)
    [end] = runs.take(messages.run_finished(NINE_MS + 2 * MINUTE_MS, status="failed"))
    assert (end.state, end.status) == ("finished", "failed")


@pytest.mark.parametrize("later_ms", [3 * HOUR_MS, 5 * DAY_MS])
def test_who_sleeps_keeps_what_its_record_said(later_ms: int) -> None:
    """An outcome that a person gives days later does not lose the model; a run taken for ended says `idle`."""
    runs = Runs()
    runs.take(messages.llm_call(NINE_MS, usd=1, model="m", input_tokens=5_000, workflow="docs"))
    [idle] = runs.take(Ticked(NINE_MS + later_ms - 1))
    assert (idle.state, idle.status, idle.ended_ms) == ("finished", "idle", NINE_MS)
    runs.restart()
    [judged] = runs.take(messages.outcome(NINE_MS + later_ms))
    assert (judged.outcome, judged.model, judged.context_tokens) == ("accepted", "m", 5_000)
    assert (judged.workflow, judged.cost_nanousd, judged.status) == ("docs", USD, "idle")
    [awake] = runs.take(messages.llm_call(NINE_MS + later_ms + HOUR_MS, usd=1, model="n"))
    assert (awake.state, awake.model, awake.cost_nanousd, awake.outcome) == ("live", "n", 2 * USD, "accepted")


def test_an_id_that_comes_again_when_its_run_is_forgotten_is_a_new_run() -> None:
    """Its record takes the place of the old one; that it was forgotten is no record."""
    runs = Runs()
    runs.take(messages.llm_call(NINE_MS, usd=1), messages.run_finished(NINE_MS + 1))
    assert not runs.take(Ticked(NINE_MS + 30 * DAY_MS))
    [again] = runs.take(messages.llm_call(NINE_MS + 30 * DAY_MS, usd=2))
    assert (again.started_ms, again.cost_nanousd, again.key) == (NINE_MS + 30 * DAY_MS, 2 * USD, runs.records[0].key)


def test_runs_beyond_the_limit_of_live_runs_are_not_recorded() -> None:
    """They are charged together and watched by nobody."""
    runs = Runs('version = "v1"\ninclude_defaults = false\nmax_live_runs_per_tenant = 1\n')
    runs.take(*(messages.llm_call(NINE_MS + number, run_id=f"run-{number}") for number in range(5)))
    assert [record.run_id for record in runs.records] == ["run-0"]


def nearest(runs: Runs) -> tuple[str, str, int, int, str]:
    """What the last record names."""
    found = runs.records[-1].nearest
    assert found is not None
    return found.rule, found.per, found.used, found.limit, found.unit


def test_the_nearest_limit_is_the_one_that_most_is_used_up_of() -> None:
    """The run's own caps and stop rule, its session's and tree's, and the budgets it spends in; not what a rule in
    shadow mode would say.
    """
    runs = Runs(CAPS)
    own: dict[str, Any] = {"session_id": "s1", "owner": "ana"}
    runs.take(messages.run_started(NINE_MS, max_duration_s=3600, **own))
    runs.take(messages.llm_call(NINE_MS + 10, usd=3, **own), messages.tool_call(NINE_MS + 11, **own))
    at_ms = NINE_MS + RECORD_AT_LEAST_MS + SECOND_MS
    runs.take(messages.llm_call(at_ms, usd=0, **own))
    assert nearest(runs) == ("run-cost", "run", 3 * USD, 10 * USD, "nanousd")
    runs.take(*(messages.llm_call(at_ms + number, run_id="run-2", **own) for number in range(4)))
    at_ms += 25 * SECOND_MS
    runs.take(messages.llm_call(at_ms, **own))
    assert nearest(runs) == ("session-calls", "session", 7, 8, "calls")
    runs.take(messages.llm_call(at_ms + 1, usd=18, run_id="run-3", owner="ana"), messages.run_finished(at_ms + 2))
    assert nearest(runs) == ("team-day", "scope", 21 * USD, 20 * USD, "nanousd")


def test_time_that_a_run_may_take_is_a_limit_and_ends_with_the_run() -> None:
    """In milliseconds, as of the record; an ended run takes no more."""
    runs = Runs()
    runs.take(messages.run_started(NINE_MS, max_duration_s=60))
    runs.take(messages.llm_call(NINE_MS + 30 * SECOND_MS))
    assert nearest(runs) == ("stop-rule", "run", 30_000, 60_000, "ms")
    runs.take(messages.run_finished(NINE_MS + 45 * SECOND_MS), messages.outcome(NINE_MS + HOUR_MS, outcome="rejected"))
    assert nearest(runs)[2] == 45_000


def test_a_budget_of_a_day_that_is_over_is_not_near() -> None:
    """Nobody has spent in the present one."""
    runs = Runs(PAUSES)
    runs.take(messages.llm_call(NINE_MS, usd=4), messages.run_finished(NINE_MS + 1))
    assert nearest(runs)[2] == 4 * USD
    [later] = runs.take(messages.outcome(NINE_MS + DAY_MS))
    assert later.nearest is None
    assert NearestLimit(rule="r", per="run", used=1, limit=4, unit="calls").share == 0.25


def test_a_kill_is_recorded_with_its_answer() -> None:
    """What it was for, what the run had cost by then, and what the guard said; overshoot is what came on top."""
    runs = Runs(KILLS)
    [start] = runs.take(messages.llm_call(NINE_MS, usd=4))
    assert start.order is None
    cause = messages.llm_call(NINE_MS + 100, usd=2)
    assert not runs.take(cause)
    [ordered] = runs.take(messages.llm_call(NINE_MS + 200, usd=1))
    assert ordered.order is not None
    [kill] = runs.commands
    assert (ordered.order.command_id, ordered.order.action, ordered.order.reason) == (
        kill.command_id,
        "kill",
        kill.reason,
    )
    assert (ordered.order.action, ordered.order.target_id, ordered.order.rule) == ("kill", "run-1", "run-cost")
    assert (ordered.order.spent_nanousd, ordered.order.cause_event_id) == (6 * USD, cause.event_id)
    assert (ordered.order.issued_ms, ordered.order.acted) == (NINE_MS + 100, None)
    runs.restart()
    ack = messages.command_ack(NINE_MS + 300, kill.command_id, denied_by="guard")
    [answered] = runs.take(ack)
    assert answered.order is not None
    assert (answered.order.acted, answered.order.acted_ms, answered.order.denied_by) == (
        "stopped",
        NINE_MS + 300,
        "guard",
    )
    [end] = runs.take(messages.run_finished(NINE_MS + 400, status="killed"))
    assert (end.order, end.cost_nanousd, end.status) == (answered.order, 7 * USD, "killed")


def test_an_answer_comes_before_the_order_was_recorded() -> None:
    """The first record of the order has the answer; an answer to another command is none."""
    runs = Runs(KILLS)
    runs.take(messages.llm_call(NINE_MS, usd=6))
    [answered] = runs.take(messages.command_ack(NINE_MS, runs.commands[0].command_id, acted="ignored"))
    assert answered.order is not None
    assert answered.order.acted == "ignored"
    runs.take(Ticked(NINE_MS + SECOND_MS))
    known = len(runs.records)
    runs.take(messages.command_ack(NINE_MS + 2 * SECOND_MS, "another"))
    assert all(record.order == answered.order for record in runs.records[known:])


def test_a_resume_is_recorded() -> None:
    """No order stands then, whatever stood before."""
    runs = Runs(KILLS)
    runs.take(messages.llm_call(NINE_MS, usd=6), Ticked(NINE_MS + SECOND_MS))
    assert runs.records[-1].order is not None
    at_ms = NINE_MS + MINUTE_MS
    [resumed] = runs.take(OperatorSeen(messages.resume(at_ms, "run", "run-1"), at_ms), Ticked(at_ms + SECOND_MS))
    assert (resumed.order, resumed.run_id) == (None, "run-1")
    assert resumed.nearest == NearestLimit(rule="run-cost", per="run", used=6 * USD, limit=11 * USD, unit="nanousd")


def test_the_strictest_order_stands_on_whichever_target() -> None:
    """A session's kill goes before a budget's pause of the run itself; ended runs are left alone."""
    runs = Runs(PAUSES)
    runs.take(messages.llm_call(NINE_MS, usd=1, session_id="s1"), messages.llm_call(NINE_MS, run_id="run-2"))
    runs.take(messages.llm_call(NINE_MS, run_id="ended", session_id="s1"))
    runs.take(messages.run_finished(NINE_MS, run_id="ended"), messages.llm_call(NINE_MS + 1, usd=5, run_id="run-2"))
    paused = {record.run_id: record.order for record in runs.take(Ticked(NINE_MS + SECOND_MS))}
    assert {run_id: order and order.action for run_id, order in paused.items()} == {"run-1": "pause", "run-2": "pause"}
    order = messages.kill(NINE_MS + MINUTE_MS, Target("session", "s1"))
    [killed] = runs.take(OperatorSeen(order, order.ts_ms), Ticked(order.ts_ms + SECOND_MS))
    assert killed.order is not None
    assert (killed.run_id, killed.order.action, killed.order.target_type) == ("run-1", "kill", "session")
    assert (killed.order.spent_nanousd, killed.order.rule) == (USD, "operator")


def many(count: int) -> Iterator[UsageMessage]:
    """The first call of so many runs."""
    return (messages.llm_call(NINE_MS + number // 100, run_id=f"run-{number:05d}") for number in range(count))


def ordered_ids(records: Iterable[RunRecord]) -> list[str]:
    """Runs whose records name an order."""
    return [record.run_id for record in records if record.order is not None]


def test_an_order_over_very_many_runs_is_recorded_in_slices() -> None:
    """A kill of a whole tenant writes no batch full of records: 500 at a time, ten times a second, each run once, also
    where the worker starts again in between.
    """
    runs = Runs()
    runs.take(*many(1_700))
    at_ms = NINE_MS + SECOND_MS
    order = messages.kill(at_ms, Target("tenant", "acme"))
    assert not runs.take(OperatorSeen(order, at_ms))
    slices = []
    for tenth in range(1, 20):
        slices.append(ordered_ids(runs.take(Ticked(at_ms + tenth * 100))))
        if tenth == 2:
            runs.restart()
    assert [len(one) for one in slices if one] == [500, 500, 500, 200]
    assert sorted(chain(*slices)) == [f"run-{number:05d}" for number in range(1_700)]


def test_names_in_another_attribution_are_told_as_the_policy_gives_them() -> None:
    """`[[attribution]]` says whose it is where the run does not."""
    policy = NOTHING + '[[attribution]]\nmatch = { workflow = "docs" }\nowner = "docs-team"\n'
    [start] = Runs(policy).take(messages.run_started(NINE_MS, workflow="docs"))
    assert (start.workflow, start.owner, start.project) == ("docs", "docs-team", None)
