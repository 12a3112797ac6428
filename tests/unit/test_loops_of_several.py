"""Loops by agent and by session: a sibling hides nothing, and what no single run shows is seen all the same."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from models.engine import Engine
from models.rules.policy import read_policy_toml
from models.runs import group_failures
from models.state.units.failing import MOST_CALLS
from models.state.units.runs import MOST_AGENTS, Run
from models.stimuli import OperatorSeen, Ticked, UsageSeen
from schemas.alert import Alert
from schemas.control import Command
from schemas.usage import UsageMessage
from tests.support import messages
from tests.support.messages import MINUTE_MS, MONDAY_MS, SECOND_MS

POLICY = """
[[repeat]]
name = "repeat"
mode = "enforce"
"""


class World:
    """An engine under a policy of loops, and what it has said."""

    def __init__(self, policy: str = POLICY) -> None:
        self.engine = Engine(read_policy_toml(policy))
        self.rows: dict[bytes, bytes] = {}
        self._said: list[Alert | Command] = []

    def happen(self, *stimuli: UsageMessage) -> None:
        for message in stimuli:
            self.engine.handle(UsageSeen(message, message.ts_ms))

    @property
    def said(self) -> list[Alert | Command]:
        values = [effect.value for effect in self.engine.drain_effects()]
        self._said += [value for value in values if isinstance(value, Alert | Command)]
        return self._said

    def pages(self) -> list[Alert]:
        found = [one for one in self.said if isinstance(one, Alert) and one.detector == "repeat"]
        return [one for one in found if one.severity == "critical" and one.state in ("open", "escalated")]

    def kills(self) -> list[str]:
        return [f"{one.target.type}/{one.target.id}" for one in self.said if isinstance(one, Command)]

    def restart(self) -> None:
        for key, value in self.engine.drain_rows():
            self.rows.pop(key, None)
            if value is not None:
                self.rows[key] = value
        self._said = self.said
        self.engine = Engine(self.engine.policy)
        self.engine.restore(self.rows)


def at(second: float) -> int:
    return MONDAY_MS + round(second * SECOND_MS)


def looping(seconds: Iterable[float], **fields: Any) -> list[UsageMessage]:
    return [messages.tool_call(at(s), args_hash="a", result_hash="x", **fields) for s in seconds]


def working(seconds: Iterable[float], **fields: Any) -> list[UsageMessage]:
    return [messages.tool_call(at(s), args_hash=f"{s}", result_hash=f"{s}", **fields) for s in seconds]


def by_time(*parts: list[UsageMessage]) -> list[UsageMessage]:
    return sorted((one for part in parts for one in part), key=lambda one: one.ts_ms)


@pytest.mark.parametrize("looper", [None, "writer"])
@pytest.mark.parametrize("sibling", ["reader", "planner"])
def test_a_sibling_agent_hides_no_loop(looper: str | None, sibling: str) -> None:
    """Named or not, before and after a restart."""
    world = World()
    stimuli = by_time(
        looping(range(0, 20, 4), agent=looper), working(range(1, 20, 4), agent=sibling), working(range(2, 20, 4))
    )
    if looper is None:
        stimuli = by_time(looping(range(0, 20, 4)), working(range(1, 20, 4), agent=sibling))
    world.happen(*stimuli[: len(stimuli) // 2])
    world.restart()
    world.happen(*stimuli[len(stimuli) // 2 :])
    assert len(world.pages()) == 1


def test_who_names_itself_only_now_and_then_is_one_agent() -> None:
    """A run that has said whose it is means that agent wherever it names none."""
    world = World()
    world.happen(messages.run_started(MONDAY_MS, agent="writer"))
    calls = by_time(looping((1, 9, 17), agent="writer"), looping((5, 13)))
    world.happen(*calls)
    assert len(world.pages()) == 1


def test_a_run_remembers_so_many_agents_and_no_more() -> None:
    """Beyond that the one that has been silent for longest is forgotten; the looping one is not."""
    world = World()
    crowd = [working([s + n / 10], agent=f"helper {n}") for s in range(0, 60, 6) for n in range(MOST_AGENTS - 1)]
    world.happen(*by_time(looping(range(0, 60, 6), agent="writer"), *crowd))
    assert len(world.pages()) == 1
    world.happen(*[one for n in range(5_000) for one in working([60 + n / 100], agent=f"sub agent {n}")])
    run = world.engine._state.tenants["acme"].run("run-1")
    assert isinstance(run, Run)
    assert len(list(run.histories())) == MOST_AGENTS + 1
    assert len(msgspec.msgpack.encode(run.fields())) < 8_000


def failing(seconds: Iterable[float], run: str = "turn {s}", session: str = "s1", **fields: Any) -> list[UsageMessage]:
    fields = {"args_hash": "make", "result_hash": "no", "status": "error", **fields}
    return [
        messages.tool_call(at(s), run_id=run.format(s=s), session_id=session, tool="make", **fields) for s in seconds
    ]


def test_a_session_whose_runs_fail_at_the_same_call_is_stopped() -> None:
    """Ten runs that try it once, or five that try it twice; a restart in between changes nothing."""
    once, twice = World(), World()
    once.happen(*failing(range(0, 50, 10)))
    once.restart()
    once.happen(*failing(range(50, 100, 10)))
    assert once.kills() == ["session/s1"]
    for second in range(0, 100, 20):
        run = f"turn {second}"
        twice.happen(*failing([second], run), *failing([second + 3], run))
    assert twice.kills() == ["session/s1"]


@pytest.mark.parametrize(
    "between",
    [
        pytest.param({"status": "ok"}, id="it works"),
        pytest.param({"status": "ok", "tool": "edit", "args_hash": "e", "writes": True}, id="something is written"),
    ],
)
def test_what_ends_the_failures_of_a_session(between: dict[str, Any]) -> None:
    """A call that works again, and a write after which it is another one."""
    world = World()
    for second in range(0, 900, 30):
        world.happen(*failing([second], run="a {s}"))
        extra = {"tool": "make", "args_hash": "make", "result_hash": "yes", **between}
        world.happen(messages.tool_call(at(second + 5), run_id=f"b {second}", session_id="s1", **extra))
    assert world.said == []


def test_failures_in_other_words_and_long_after_each_other_stop_nobody() -> None:
    """The former are told; the latter are none of a row."""
    words, seldom = World(), World()
    for n in range(20):
        words.happen(*failing([n * 10], result_hash=f"no {n}"))
        seldom.happen(*failing([n * 660]))
    assert [one.state for one in words.said if isinstance(one, Alert)] == ["open"]
    assert seldom.said == []


def test_a_session_that_is_let_go_on_starts_anew() -> None:
    """Its resume is not undone by the next failure; ten more stop it again."""
    world = World()
    world.happen(*failing(range(0, 100, 10)))
    world.engine.handle(OperatorSeen(messages.resume(at(130), "session", "s1"), at(130)))
    world.happen(*failing(range(140, 230, 10)))
    assert world.kills() == ["session/s1", "session/s1"], "the kill, and the resume"
    world.happen(*failing([230]))
    assert len(world.kills()) == 3


def test_failing_calls_are_forgotten_when_they_stop() -> None:
    """And are few in any case, of a session and of a tenant."""
    world = World()
    for n in range(50):
        world.happen(*failing([n], run="one", args_hash=f"{n}"))
    [row] = world.engine._state.tenants["acme"].failing.values()
    assert len(row.calls) == MOST_CALLS
    world.engine.handle(Ticked(at(50) + 11 * MINUTE_MS))
    assert world.engine._state.tenants["acme"].failing == {}


def test_sessions_with_failing_calls_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of sessions come from outside."""
    monkeypatch.setattr(group_failures, "MOST_GROUPS", 10)
    world = World()
    for n in range(50):
        world.happen(*failing([n], session=f"s{n}"))
    assert len(world.engine._state.tenants["acme"].failing) == 10
