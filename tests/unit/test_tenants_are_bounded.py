"""Tenants are made up as easily as runs: so many are known, the others count together, and the silent are forgotten."""

from typing import Any

import pytest

from models.effects import Effect
from models.engine import Engine
from models.rules.policy import Policy, read_policy
from models.state.rows import read_key
from models.state.tenant import FORGET_MS, OVERFLOW_TENANT
from models.stimuli import OperatorSeen, PolicyChanged, Ticked, UsageSeen
from schemas.alert import Alert
from schemas.control import Command, Target
from schemas.rollup import Rollup
from streams.worker.partition import Partition
from tests.support.messages import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    MONDAY_MS,
    USD,
    kill,
    limit_exception,
    llm_call,
    resume,
    run_finished,
    run_started,
    tool_call,
)

LIMIT = 3
SILENCE_MS = FORGET_MS + 2 * DAY_MS


def policy(**header: Any) -> Policy:
    """Budgets and caps that stop, for few tenants."""
    return read_policy(
        {
            "max_tenants_per_partition": LIMIT,
            "budget": [
                {
                    "name": "daily", "group_by": ["tenant_id"], "period": "day", "limit_usd": 10, "at_limit": "pause",
                    "mode": "enforce",
                },
            ],
            "cap": [{"name": "run-cost", "limit_usd": 5, "at_limit": "kill", "mode": "enforce"}],
            "include_defaults": True,
            **header,
        }
    )  # fmt: skip


def many(tenants: int) -> list[Any]:
    """Messages of so many tenants, of every kind, under the same few ids of events and runs."""
    found: list[Any] = []
    for number in range(tenants):
        told = {"tenant_id": f"tenant-{number}", "run_id": "r", "session_id": "s", "workflow": "w"}
        at_ms = MONDAY_MS + number * MINUTE_MS
        found += [
            run_started(at_ms, event_id="1", **told),
            llm_call(at_ms + 1, usd=4, event_id="2", **told),
            tool_call(at_ms + 2, event_id="3", **told),
            llm_call(at_ms + 3, usd=4, event_id="4", **told),
            llm_call(at_ms + 3, usd=4, event_id="4", **told),
            run_finished(at_ms + 4, event_id="5", **told),
        ]
    return found


def feed(engine: Engine, messages: list[Any]) -> list[Effect]:
    """What these lead to, each appended at its own time."""
    for message in messages:
        engine.handle(UsageSeen(message, message.ts_ms))
    return engine.drain_effects()


def rows_of(engine: Engine) -> dict[bytes, bytes]:
    """All rows of an engine that has written none."""
    return {key: value for key, value in engine.drain_rows() if value is not None}


def test_tenants_beyond_the_limit_count_together_and_it_is_said() -> None:
    """Every dollar and every call is in some total, the budgets of the overflow are told, no command goes to tenants or
    runs that nobody knows, and one critical page an hour says what is going on.
    """
    engine = Engine(policy())
    effects = feed(engine, many(10))
    engine.handle(Ticked(MONDAY_MS + 2 * HOUR_MS))
    effects += engine.drain_effects()
    assert set(engine.tenants) == {"tenant-0", "tenant-1", "tenant-2", OVERFLOW_TENANT}
    rollups = {effect.key: effect.value for effect in effects if isinstance(effect.value, Rollup)}
    spent = dict.fromkeys(engine.tenants, 0)
    calls = 0
    for rollup in rollups.values():
        spent[rollup.tenant_id] += rollup.cost_nanousd
        calls += rollup.calls + rollup.tool_calls
    assert spent == {tenant: 56 * USD if tenant == OVERFLOW_TENANT else 8 * USD for tenant in engine.tenants}
    assert calls == 30
    assert engine.counts.duplicates == 10
    alerts = [effect.value for effect in effects if isinstance(effect.value, Alert)]
    [page] = [one for one in alerts if one.rule == "tenants" and one.state == "open"]
    assert (page.severity, page.tenant_id, page.value, page.limit) == ("critical", OVERFLOW_TENANT, LIMIT, LIMIT)
    assert page.evidence["tenant"] == "tenant-3"
    assert [one.level for one in alerts if one.rule == "daily" and one.tenant_id == OVERFLOW_TENANT][-1] >= 1
    commanded = {effect.value.tenant_id for effect in effects if isinstance(effect.value, Command)}
    assert commanded == {"tenant-0", "tenant-1", "tenant-2"}


@pytest.mark.parametrize("cut", [7, 20, 41])
def test_an_overflow_goes_on_after_a_restart(cut: int) -> None:
    """The same is said and the same rows are there, wherever it is cut."""
    messages = many(10)
    whole = Engine(policy())
    expected = feed(whole, messages)
    before = Engine(policy())
    effects = feed(before, messages[:cut])
    after = Engine(policy())
    rows = rows_of(before)
    after.restore(rows)
    effects += feed(after, messages[cut:])
    assert effects == expected
    rows |= {key: value for key, value in after.drain_rows() if value is not None}
    assert {key for key in rows if read_key(key)[0] != "seen"} == {
        key for key in rows_of(whole) if read_key(key)[0] != "seen"
    }


def test_an_order_makes_a_tenant_known() -> None:
    """A person vouches for it: what it does from then on is watched."""
    engine = Engine(policy())
    feed(engine, many(5))
    engine.handle(OperatorSeen(resume(MONDAY_MS + HOUR_MS, "run", "r", "tenant-4"), MONDAY_MS + HOUR_MS))
    effects = feed(engine, [llm_call(MONDAY_MS + HOUR_MS, usd=6, tenant_id="tenant-4", run_id="new")])
    kills = [effect.value.tenant_id for effect in effects if isinstance(effect.value, Command)]
    assert kills == ["tenant-4"]


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("by_message", [False, True])
def test_who_has_been_silent_for_long_is_forgotten(by_message: bool, restarted: bool) -> None:
    """No row of it is left, and its next message is its first; whether time or that message finds it out."""
    engine = Engine(policy())
    feed(engine, many(2))
    rows = rows_of(engine)
    if restarted:
        engine = Engine(policy())
        engine.restore(rows)
    for day in range(FORGET_MS // DAY_MS):
        engine.handle(Ticked(MONDAY_MS + day * DAY_MS))
    assert set(engine.tenants) == {"tenant-0", "tenant-1"}
    late_ms = MONDAY_MS + SILENCE_MS
    if by_message:
        feed(engine, [llm_call(late_ms, usd=1, tenant_id="tenant-0")])
    engine.handle(Ticked(late_ms))
    for key, value in engine.drain_rows():
        rows.pop(key, None)
        rows |= {} if value is None else {key: value}
    left = {read_key(key)[1] for key in rows if read_key(key)[0] not in ("seen", "policy")}
    assert left == ({"tenant-0"} if by_message else set())
    assert len([key for key in rows if read_key(key)[0] == "scope"]) == (len(policy().meters) if by_message else 0)
    again = Engine(policy())
    again.restore(rows)
    assert again.digest == engine.digest
    assert set(again.tenants) == set(engine.tenants) == left


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(kill(MONDAY_MS, Target("tenant", "acme")), id="a kill"),
        pytest.param(limit_exception(MONDAY_MS, "daily", "acme", USD, MONDAY_MS + 90 * DAY_MS), id="an exception"),
    ],
)
def test_what_a_person_ordered_is_not_forgotten(order: Any) -> None:
    """However long nobody hears of the tenant: its runs meet the kill, and the exception, when they come back."""
    engine = Engine(policy())
    engine.handle(OperatorSeen(order, MONDAY_MS))
    feed(engine, [llm_call(MONDAY_MS, usd=1)])
    for day in range(SILENCE_MS // DAY_MS + 5):
        engine.handle(Ticked(MONDAY_MS + day * DAY_MS))
    assert set(engine.tenants) == {"acme"}
    engine.handle(Ticked(MONDAY_MS + 140 * DAY_MS))
    assert ("acme" in engine.tenants) == (not hasattr(order, "limit_nanousd"))


def test_another_policy_shows_signs_of_life() -> None:
    """While it is brought to very many tenants, runs and scopes, the loop's watchdog is told again and again that it
    goes on, live and after a restart; what follows is the same.
    """
    breaths: list[None] = []
    messages = [
        llm_call(MONDAY_MS, usd=1, tenant_id=f"t{number % 20}", run_id=f"r{number}", workflow=f"w{number}")
        for number in range(200)
    ]
    roomy = {"max_tenants_per_partition": 100}
    wide = policy(**roomy, cap=[{"name": "c", "limit_usd": 0.5, "at_limit": "kill", "mode": "enforce"}])
    found = []
    for breathe in (None, lambda: breaths.append(None)):
        engine = Engine(policy(**roomy), 1, breathe)
        feed(engine, messages)
        breaths.clear()
        engine.handle(PolicyChanged(wide, MONDAY_MS))
        found.append(engine.drain_effects())
    assert found[0] == found[1]
    assert len([effect for effect in found[0] if isinstance(effect.value, Command)]) == 200
    assert len(breaths) >= 20 + 20 + 200  # tenants, scopes, runs
    partition = Partition(0, 1, policy(**roomy), {}, None)
    feed(partition.engine, messages)
    rows = rows_of(partition.engine)
    restored = Partition(0, 1, wide, rows, partition.fence(), breathe=lambda: breaths.append(None))
    breaths.clear()
    restored.catch_up(3600)
    assert len(breaths) >= 20 + 20 + 200


def test_remembered_routes_have_so_many_bytes() -> None:
    """One run that says another long name each time makes no cache grow: routes are forgotten by their bytes."""
    dimensions = ["tenant_id", "workflow", "user", "tags.a", "tags.b"]
    engine = Engine(read_policy({"budget": [
        {"name": "b", "group_by": dimensions, "period": "day", "limit_usd": 1},
    ], "max_scopes_per_tenant": 10, "max_workflows_per_tenant": 10}))  # fmt: skip
    most = 0
    for number in range(6_000):
        names = {name: f"{number:06}{name}".ljust(256, "\u4e00") for name in ("workflow", "user", "a", "b")}
        tags = {"a": names["a"], "b": names["b"]}
        call = llm_call(MONDAY_MS, workflow=names["workflow"], user=names["user"], tags=tags)
        engine.handle(UsageSeen(call, MONDAY_MS))
        most = max(most, len(engine._state.tenants["acme"].routes))
    assert 1_000 < most < 5_000


def test_what_is_known_of_a_tenants_models_is_forgotten_with_it() -> None:
    """The rows of its workflows' models among the others, restored or not."""
    engine = Engine(read_policy({}))
    feed(engine, [llm_call(MONDAY_MS, usd=1, workflow="docs"), run_finished(MONDAY_MS + 1)])
    rows = rows_of(engine)
    [key] = [key for key in rows if read_key(key)[0] == "model_cohort"]
    assert read_key(key) == ("model_cohort", "acme", "docs", "test-model")
    restored = Engine(read_policy({}))
    restored.restore(rows)
    for one in (engine, restored):
        for day in range(SILENCE_MS // DAY_MS + 1):
            one.handle(Ticked(MONDAY_MS + day * DAY_MS))
        assert (key, None) in one.drain_rows()
        assert not one.tenants
