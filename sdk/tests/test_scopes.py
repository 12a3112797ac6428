"""A command to a scope reaches the runs whose own dimensions have its values, those that start later included."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from spendfuse import Emitter, Guard, Paused, Stopped
from spendfuse._control.command import ALL_TENANTS, Command, Scope
from spendfuse._control.scope import CallDimensions, ScopeIndex
from spendfuse._control.standing import EXPIRED_KEPT_S, StandingCommands
from spendfuse.testing import FakeControl, MemoryTransport

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
TARGET = ("scope", "hourly/acme")


@dataclass(slots=True)
class Clock:
    """A wall clock that the test moves."""

    now_ms: int = NOW_MS

    def __call__(self) -> int:
        """Return the time."""
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    """A clock at NOW_MS."""
    return Clock()


@pytest.fixture
def control() -> FakeControl:
    """A control topic."""
    return FakeControl()


@pytest.fixture
def guard(control: FakeControl, emitter: Emitter, clock: Clock) -> Iterator[Guard]:
    """A guard that believes every command."""
    with Guard(control, emitter, when_blind="continue", blind_after_s=3600, clock_ms=clock) as guard:
        assert guard.wait_ready(10)
        yield guard


@dataclass
class OwnRun:
    """A run object of somebody else's, with attribution or without."""

    attribution: Any = None
    workflow: str | None = None
    tenant_id: str = "acme"
    run_id: str = "own"
    session_id: str | None = None
    root_run_id: str | None = None


ANA = {"owner": "ana", "environment": "prod", "workflow": "docs", "tags": {"team": "red", "empty": ""}}


def order(control: FakeControl, action: str, scope: Any = None, **fields: Any) -> str:
    """Put a command to a scope on the topic; it ends in an hour. `fields` override the message's."""
    body = {"expires_ms": NOW_MS + HOUR_MS, "scope": scope, "tenant_id": "acme"} | fields
    target, tenant_id = body.pop("target", TARGET), body.pop("tenant_id")
    return control.command(action, target, tenant_id=tenant_id, **body)


def state_of(guard: Guard, run: Any, **call: Any) -> str:
    """What a check says."""
    try:
        guard.check(run, **call)
    except Stopped:
        return "stopped"
    except Paused:
        return "paused"
    return "downgraded" if guard.advice(run, **call).downgrade else "free"


@pytest.mark.parametrize(
    ("scope", "call", "is_in"),
    [
        ({"tenant_id": ["acme"]}, {}, True),
        ({"tenant_id": ["other"]}, {}, False),
        ({}, {}, True),
        ({"owner": ["ana"]}, {}, True),
        ({"owner": ["bo", "ana"]}, {}, True),
        ({"owner": ["bo"]}, {}, False),
        ({"owner": []}, {}, False),
        ({"owner": ["ana"], "environment": ["prod", "staging"]}, {}, True),
        ({"owner": ["ana"], "environment": ["staging"]}, {}, False),
        ({"workflow": ["docs"]}, {}, True),
        ({"workflow": ["Docs"]}, {}, False),
        ({"tags.team": ["red"]}, {}, True),
        ({"tags.team": ["blue"]}, {}, False),
        # What a run does not say, or says with nothing.
        ({"project": ["unattributed"]}, {}, True),
        ({"project": ["p1", "unattributed"]}, {}, True),
        ({"project": ["p1"]}, {}, False),
        ({"tags.empty": ["unattributed"]}, {}, True),
        ({"tags.region": ["unattributed"]}, {}, True),
        ({"owner": ["unattributed"]}, {}, False),
        ({"dimension of the future": ["x"]}, {}, False),
        # What only the call knows.
        ({"model": ["gpt-5"]}, {}, False),
        ({"model": ["unattributed"]}, {}, False),
        ({"model": ["gpt-5"]}, {"model": "gpt-5"}, True),
        ({"model": ["gpt-5"]}, {"model": None}, False),
        ({"model": ["gpt-5"]}, {"model": "gpt-5-mini"}, False),
        ({"model": ["gpt-5"], "owner": ["ana"]}, {"model": "gpt-5"}, True),
        ({"model": ["gpt-5"], "provider": ["openai"]}, {"model": "gpt-5"}, False),
        ({"model": ["gpt-5"], "provider": ["openai"]}, {"model": "gpt-5", "provider": "openai"}, True),
        ({"route": ["cheap", "fast"]}, {"route": "fast"}, True),
        ({"route": ["cheap", "fast"]}, {}, False),
    ],
)
def test_who_is_in_a_scope(
    guard: Guard,
    control: FakeControl,
    emitter: Emitter,
    scope: dict[str, list[str]],
    call: CallDimensions,
    *,
    is_in: bool,
) -> None:
    """All dimensions must agree, each with one of its values; a missing one is unattributed, of a call unknown."""
    order(control, "kill", scope)
    run = emitter.run(tenant_id="acme", run_id="r1", **ANA)  # type: ignore[arg-type]  # a mapping of several types
    expected = "stopped" if is_in else "free"
    assert state_of(guard, run, **call) == expected
    assert state_of(guard, run.child(), **call) == expected, "a child is attributed as its parent is"
    assert state_of(guard, OwnRun(ANA), **call) == expected
    assert state_of(guard, emitter.run(tenant_id="other", **ANA), **call) == "free"  # type: ignore[arg-type]


@pytest.mark.parametrize("attribution", [None, {}, [], "owner", {"tags": ["team"]}, {"owner": 7}, {"owner": None}])
def test_a_run_object_that_says_nothing_of_use_is_unattributed(
    guard: Guard, control: FakeControl, attribution: object
) -> None:
    """Your own run objects may have no attribution, or a strange one: no check fails, and it counts as missing."""
    order(control, "kill", {"owner": ["ana"]})
    order(control, "pause", {"owner": ["unattributed"], "tags.team": ["unattributed"]}, target=("scope", "others"))
    assert state_of(guard, OwnRun(attribution)) == "paused"


def test_a_run_object_without_attribution_has_its_workflow(guard: Guard, control: FakeControl) -> None:
    """`workflow` is a part of every run object, so a budget of a workflow holds for it."""
    order(control, "kill", {"workflow": ["docs"]})
    assert state_of(guard, OwnRun(workflow="docs")) == "stopped"
    assert state_of(guard, OwnRun({"owner": "ana"}, workflow="docs")) == "stopped"
    assert state_of(guard, OwnRun({"workflow": "other"}, workflow="docs")) == "free"


@pytest.mark.parametrize(("action", "state"), [("kill", "stopped"), ("pause", "paused"), ("downgrade", "downgraded")])
def test_a_scope_holds_for_runs_not_yet_born(
    guard: Guard, control: FakeControl, emitter: Emitter, clock: Clock, action: str, state: str
) -> None:
    """Every run that starts while it stands meets it before its first call; when the period ends, it is over."""
    order(control, action, {"workflow": ["docs"]})
    for number in range(3):
        assert state_of(guard, emitter.run(tenant_id="acme", run_id=f"r{number}", workflow="docs")) == state
    assert state_of(guard, emitter.run(tenant_id="acme", workflow="triage")) == "free"
    clock.now_ms += HOUR_MS
    assert state_of(guard, emitter.run(tenant_id="acme", run_id="next", workflow="docs")) == "free"


def test_a_pause_of_a_scope_says_until_when(guard: Guard, control: FakeControl, emitter: Emitter) -> None:
    """The agent learns when the budget's next period begins."""
    command_id = order(control, "pause", {"workflow": ["docs"]})
    with pytest.raises(Paused) as paused:
        guard.check(emitter.run(tenant_id="acme", workflow="docs"))
    assert (paused.value.until_ms, paused.value.command_id) == (NOW_MS + HOUR_MS, command_id)


@pytest.mark.parametrize("action", ["kill", "pause"])
def test_short_runs_one_after_another_spend_the_limit_and_one_call_more(
    guard: Guard, control: FakeControl, emitter: Emitter, action: str
) -> None:
    """Thirty runs of three calls at 11 cents would spend $9.90 of a budget of $2.00: nineteen calls are made."""
    spent_cents = 0
    for _ in range(30):
        with suppress(Stopped, Paused), emitter.run(tenant_id="acme", workflow="burst") as run:
            for _ in range(3):
                guard.check(run)
                spent_cents += 11
                if spent_cents - 11 < 200 <= spent_cents:
                    order(control, action, {"tenant_id": ["acme"], "workflow": ["burst"]})
    assert spent_cents == 209
    guard.check(emitter.run(tenant_id="acme", workflow="other"))


LIFTS: list[tuple[str, dict[str, Any], str]] = [
    ("resume by the operator", {"kid": "operator"}, "free"),
    ("resume by the engine", {"kid": "engine"}, "stopped"),
    ("resume with the scope", {"kid": "operator", "scope": {"workflow": ["docs"]}}, "free"),
    ("resume that is older", {"kid": "operator", "seq": 0}, "stopped"),
    ("resume that has expired", {"kid": "operator", "expires_ms": NOW_MS}, "stopped"),
    ("resume of another scope", {"kid": "operator", "target": ("scope", "daily/acme")}, "stopped"),
    ("resume of a workflow", {"kid": "operator", "target": ("workflow", "docs")}, "stopped"),
    ("resume of the tenant", {"kid": "operator", "target": ("tenant", "acme")}, "stopped"),
    ("resume of another tenant", {"kid": "operator", "tenant_id": "other"}, "stopped"),
]


@pytest.mark.parametrize(("fields", "state"), [row[1:] for row in LIFTS], ids=[row[0] for row in LIFTS])
def test_what_lifts_a_killed_scope(
    guard: Guard, control: FakeControl, emitter: Emitter, fields: dict[str, Any], state: str
) -> None:
    """A newer resume of the operator's for the same scope, and nothing else before the period ends."""
    order(control, "kill", {"workflow": ["docs"]})
    order(control, "resume", **fields)
    assert state_of(guard, emitter.run(tenant_id="acme", workflow="docs")) == state


def test_the_engine_lifts_what_it_paused(guard: Guard, control: FakeControl, emitter: Emitter) -> None:
    """The limit was raised: who counts the budget opens its scope again."""
    order(control, "pause", {"workflow": ["docs"]})
    order(control, "resume", kid="engine")
    guard.check(emitter.run(tenant_id="acme", workflow="docs"))


def test_a_scope_is_closed_again_after_a_resume(guard: Guard, control: FakeControl, emitter: Emitter) -> None:
    """The raised limit is used up as well."""
    order(control, "kill", {"workflow": ["docs"]})
    order(control, "resume", kid="operator")
    order(control, "pause", {"workflow": ["docs"]})
    assert state_of(guard, emitter.run(tenant_id="acme", workflow="docs")) == "paused"
    assert guard.stats.applied == 3


def test_a_later_command_with_another_scope_lifts_no_kill(guard: Guard, control: FakeControl, emitter: Emitter) -> None:
    """Each command means the runs it named: a pause of a narrower scope under the same id frees nobody."""
    order(control, "kill", {"environment": ["prod", "staging"]})
    order(control, "pause", {"environment": ["dev"]})
    states = {each: state_of(guard, emitter.run(tenant_id="acme", environment=each)) for each in ("prod", "dev", "qa")}
    assert states == {"prod": "stopped", "dev": "paused", "qa": "free"}


EXEMPTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("by the operator", {"kid": "operator", "issued_ms": NOW_MS + 1}, "free"),
    ("at the same moment", {"kid": "operator", "issued_ms": NOW_MS}, "free"),
    ("by the engine", {"kid": "engine", "issued_ms": NOW_MS + 1}, "stopped"),
    ("before the scope's command", {"kid": "operator", "issued_ms": NOW_MS - 1}, "free"),
    ("expired", {"kid": "operator", "issued_ms": NOW_MS + 1, "expires_ms": NOW_MS}, "stopped"),
    ("another run", {"kid": "operator", "issued_ms": NOW_MS + 1, "target": ("run", "r2")}, "stopped"),
    ("the run's session", {"kid": "operator", "issued_ms": NOW_MS + 1, "target": ("session", "s1")}, "stopped"),
]


@pytest.mark.parametrize("resume_first", [False, True])
@pytest.mark.parametrize(("fields", "state"), [row[1:] for row in EXEMPTIONS], ids=[row[0] for row in EXEMPTIONS])
def test_a_run_that_an_operator_lets_go_on_is_exempt(
    guard: Guard, control: FakeControl, emitter: Emitter, fields: dict[str, Any], state: str, *, resume_first: bool
) -> None:
    """From what its scopes are told before or after, in whichever order both are read; others stay stopped. A command
    to the run itself ends that: the engine gives one when the run has used up what the operator allowed.
    """
    resume = {"target": ("run", "r1")} | fields
    if resume_first:
        order(control, "resume", **resume)
    order(control, "kill", {"workflow": ["docs"]}, issued_ms=NOW_MS)
    with emitter.run(tenant_id="acme", run_id="r1", session_id="s1", workflow="docs") as run:
        if not resume_first:
            assert run.stop_event.is_set()
            order(control, "resume", **resume)
        assert state_of(guard, run) == state
        assert run.stop_event.is_set() == (state == "stopped")
        assert state_of(guard, emitter.run(tenant_id="acme", run_id="r3", workflow="docs")) == "stopped"
        order(control, "pause", target=("run", "r1"), issued_ms=NOW_MS + 2)
        assert state_of(guard, run) == "stopped"


MALFORMED: list[Any] = [None, [], "workflow", {"workflow": "docs"}, {"workflow": [1]}, {"workflow": {"docs": 1}}]


@pytest.mark.parametrize("scope", MALFORMED, ids=str)
def test_a_command_to_a_scope_that_names_none_is_malformed(
    guard: Guard, control: FakeControl, emitter: Emitter, scope: Any
) -> None:
    """It is counted, and nobody is stopped by a guess."""
    order(control, "kill", scope)
    assert guard.stats.malformed == 1
    assert state_of(guard, emitter.run(tenant_id="acme", workflow="docs")) == "free"


def test_a_scope_on_another_target_means_nothing(guard: Guard, control: FakeControl, emitter: Emitter) -> None:
    """A workflow's kill reaches the workflow, whatever scope somebody wrote beside it."""
    order(control, "kill", {"owner": ["ana"]}, target=("workflow", "docs"))
    assert state_of(guard, emitter.run(tenant_id="acme", workflow="docs")) == "stopped"
    assert state_of(guard, emitter.run(tenant_id="acme", owner="ana")) == "free"


def test_live_runs_in_a_scope_are_stopped_by_a_push(guard: Guard, control: FakeControl, emitter: Emitter) -> None:
    """Their event is set without a check, and unset by the resume; others, and scopes of single calls, push nothing."""
    heard: list[str] = []
    guard.on_stop(lambda run, _: heard.append(run.run_id))
    with (
        emitter.run(tenant_id="acme", run_id="in", workflow="docs") as inside,
        emitter.run(tenant_id="acme", run_id="out", workflow="triage") as outside,
    ):
        order(control, "kill", {"workflow": ["docs"], "model": ["gpt-5"]}, target=("scope", "calls"))
        assert not inside.stop_event.is_set()
        order(control, "kill", {"workflow": ["docs"]})
        assert (inside.stop_event.is_set(), outside.stop_event.is_set()) == (True, False)
        order(control, "resume", kid="operator")
        assert not inside.stop_event.is_set()
        order(control, "kill", {"workflow": ["docs"]})
        assert inside.stop_event.is_set()
    assert heard == ["in", "in"]


def test_each_run_answers_a_scope_by_itself(
    guard: Guard, control: FakeControl, emitter: Emitter, transport: MemoryTransport
) -> None:
    """The service learns which runs obeyed, each once, and which go on."""
    pause = order(control, "pause", {"workflow": ["docs"]})
    runs = [emitter.run(tenant_id="acme", run_id=name, workflow="docs") for name in ("a", "b")]
    for run in (runs[0].start(), runs[1].start(), runs[0]):
        assert state_of(guard, run) == "paused"
    kill = order(control, "kill", {"workflow": ["docs"]})
    assert state_of(guard, runs[0]) == "stopped"
    resume = order(control, "resume", kid="operator")
    emitter.flush()
    acks = [(event["run_id"], event["command_id"], event["acted"]) for event in transport.of_type("command_ack")]
    assert acks == [
        ("a", pause, "paused"), ("b", pause, "paused"), ("a", kill, "stopped"), ("a", resume, "resumed"),
        ("b", resume, "resumed"),
    ]  # fmt: skip


def _command(number: int, action: str = "kill", **fields: Any) -> Command:
    given: dict[str, Any] = {
        "command_id": f"c{number}", "action": action, "tenant_id": "acme", "target": ("scope", str(number)), "seq": 1,
        "issued_ms": NOW_MS, "expires_ms": NOW_MS + HOUR_MS, "reason": "", "rule": None, "incident_id": None,
        "scope": {"user": frozenset({f"u{number}"}), "environment": frozenset({"prod", "qa"})},
    }  # fmt: skip
    return Command(**(given | fields))


@dataclass
class Counted(OwnRun):
    """A run that counts how often it is asked for its attribution."""

    asked: int = field(default=0, compare=False)

    def __getattribute__(self, name: str) -> Any:
        """Count questions for attribution."""
        if name == "attribution":
            object.__setattr__(self, "asked", object.__getattribute__(self, "asked") + 1)
        return object.__getattribute__(self, name)


def test_many_scopes_cost_one_lookup() -> None:
    """Ten thousand users over their limit: a check compares with none of them but the run's own."""
    compared: list[str] = []

    class Watched(frozenset[str]):
        """Says when it is looked into."""

        def __contains__(self, value: object) -> bool:
            compared.append(str(value))
            return super().__contains__(value)

    standing = StandingCommands()
    for number in range(10_000):
        scope: Scope = {"user": Watched({f"u{number}"}), "environment": Watched({"prod", "qa"})}
        standing.apply(_command(number, scope=scope), by_operator=False, now_ms=NOW_MS)
    run = Counted({"user": "u4711", "environment": "prod"})
    found = standing.kill(run, NOW_MS)
    assert found is not None
    assert (found.command_id, run.asked, sorted(compared)) == ("c4711", 1, ["prod", "u4711"])
    assert standing.kill(Counted({"user": "u4711", "environment": "dev"}), NOW_MS) is None


def test_expired_scopes_are_forgotten() -> None:
    """Nothing of them stays behind, and what has not expired stays."""
    standing = StandingCommands()
    for number in range(100):
        ends_ms = NOW_MS + HOUR_MS * (1 + number % 2)
        standing.apply(_command(number, expires_ms=ends_ms), by_operator=False, now_ms=NOW_MS)
    for now_s in (0, EXPIRED_KEPT_S):
        standing.prune(NOW_MS + HOUR_MS, now_s)
    reached = [standing.kill(OwnRun({"user": f"u{n}", "environment": "qa"}), NOW_MS) for n in range(100)]
    assert [command is not None for command in reached] == [False, True] * 50
    for now_s in (0, EXPIRED_KEPT_S):
        standing.prune(NOW_MS + 2 * HOUR_MS, now_s)
    assert standing.is_quiet("acme")


def test_the_index_holds_what_was_added_and_not_removed() -> None:
    """Commands of any mix of dimensions come and go; those that are left are found, and nothing empty remains."""
    index = ScopeIndex()
    scopes: list[Scope] = [
        {}, {"owner": frozenset({"ana"})}, {"owner": frozenset({"ana", "bo"})}, {"owner": frozenset()},
        {"owner": frozenset({"ana"}), "environment": frozenset({"prod"})},
    ]  # fmt: skip
    commands = [_command(number, scope=scope) for number, scope in enumerate(scopes * 2)]
    for command in commands:
        index.add(command)
    run = OwnRun(ANA)
    assert {each.command_id for each in index.reaching(run)} == {"c0", "c1", "c2", "c4", "c5", "c6", "c7", "c9"}
    for command in commands[:5]:
        index.remove(command)
        index.remove(command)
    assert {each.command_id for each in index.reaching(run)} == {"c5", "c6", "c7", "c9"}
    for command in commands:
        index.remove(command)
    assert not list(index.reaching(run))
    assert not index._by_names


def test_what_all_tenants_are_told_reaches_the_runs_of_every_tenant(
    guard: Guard, control: FakeControl, emitter: Emitter, clock: Clock
) -> None:
    """A budget across tenants is used up: runs in its scope wait whoever's they are, live ones and later ones, until it
    is lifted or its period ends. One that an operator lets go on is exempt, and runs outside of the scope never hear.
    """
    order(control, "pause", {"owner": ["ana"], "tenant_id": ["acme", "globex"]}, tenant_id=ALL_TENANTS)
    runs = {name: emitter.run(tenant_id=name, run_id="r1", owner="ana") for name in ("acme", "globex", "initech")}
    assert {name: state_of(guard, run) for name, run in runs.items()} == {
        "acme": "paused", "globex": "paused", "initech": "free",
    }  # fmt: skip
    assert state_of(guard, emitter.run(tenant_id="acme", owner="bo")) == "free"
    order(control, "resume", kid="operator", target=("run", "r1"))
    assert (state_of(guard, runs["acme"]), state_of(guard, runs["globex"])) == ("free", "paused")
    order(control, "resume", kid="engine", tenant_id=ALL_TENANTS)
    assert state_of(guard, runs["globex"]) == "free"
    order(control, "downgrade", {}, tenant_id=ALL_TENANTS)
    assert state_of(guard, emitter.run(tenant_id="hooli", run_id="r2")) == "downgraded", "an empty scope is everybody"
    clock.now_ms += HOUR_MS
    assert state_of(guard, emitter.run(tenant_id="hooli", run_id="r3")) == "free"


def test_live_runs_of_every_tenant_are_stopped_by_a_push(guard: Guard, control: FakeControl, emitter: Emitter) -> None:
    """A kill in a scope of all tenants sets the events of whoever is in it, nobody else's; its resume unsets them."""
    with (
        emitter.run(tenant_id="acme", run_id="in", owner="ana") as one,
        emitter.run(tenant_id="globex", run_id="in", owner="ana") as other,
        emitter.run(tenant_id="acme", run_id="out", owner="bo") as outside,
    ):
        order(control, "kill", {"owner": ["ana"]}, tenant_id=ALL_TENANTS)
        assert [run.stop_event.is_set() for run in (one, other, outside)] == [True, True, False]
        order(control, "resume", kid="operator", tenant_id=ALL_TENANTS)
        assert [run.stop_event.is_set() for run in (one, other, outside)] == [False, False, False]


@pytest.mark.parametrize("target", [("run", "r1"), ("tenant", "acme"), ("workflow", "docs")])
def test_all_tenants_are_told_of_scopes_alone(
    guard: Guard, control: FakeControl, emitter: Emitter, target: tuple[str, str]
) -> None:
    """Ids are a tenant's own: the same one elsewhere is another run, so that nobody is stopped by it."""
    order(control, "kill", target=target, tenant_id=ALL_TENANTS)
    assert guard.stats.malformed == 1
    assert state_of(guard, emitter.run(tenant_id="acme", run_id="r1", workflow="docs")) == "free"
