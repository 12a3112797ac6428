"""The engine's promises that no single rule makes: hostile amounts, changes of policy, memory of what went before."""

from collections.abc import Iterable
from typing import Any

import pytest

from models.engine import Engine
from models.rules.policy import Policy, read_policy_toml
from models.stimuli import OperatorSeen, PolicyChanged, Stimulus, Ticked, UsageSeen
from schemas.alert import Alert
from schemas.codec import encode
from schemas.control import Command
from schemas.rollup import Rollup
from schemas.usage import UsageMessage
from tests.support import messages
from tests.support.messages import DAY_MS, HOUR_MS, MINUTE_MS, MONDAY_MS, SECOND_MS, USD
from tests.support.replay import replay

NINE_MS = MONDAY_MS + 9 * HOUR_MS
MOST_NANOUSD = 10**15
RUN_CAP = '[[cap]]\nname = "run-cost"\nlimit_usd = 5\nthresholds = [1.0]\nat_limit = "kill"\nmode = "enforce"\n'
HOURLY_BUDGET = '[[budget]]\nname = "hour"\nperiod = "hour"\nlimit_usd = 10\nthresholds = [1.0]\n'


def seen(*usage: UsageMessage) -> list[UsageSeen]:
    """Messages appended when they happened."""
    return [UsageSeen(message, message.ts_ms) for message in usage]


def alerts(engine: Engine, stimuli: Iterable[Stimulus]) -> list[Alert]:
    """The alerts that these lead to."""
    return [effect.value for effect in replay(engine, stimuli) if isinstance(effect.value, Alert)]


def restarted(engine: Engine, policy: Policy) -> Engine:
    """Another engine, made of everything this one has written since it was new."""
    rows = dict(engine.drain_rows())
    other = Engine(policy)
    other.restore({key: value for key, value in rows.items() if value is not None})
    return other


def told(found: Iterable[Alert]) -> list[tuple[str, str]]:
    """Rule and state of each alert."""
    return [(alert.rule, alert.state) for alert in found]


def test_amounts_beyond_64_bits_stop_nothing() -> None:
    """A tenant that reports a million dollars a call, over and over, is counted up to a bound and breaks nothing."""
    tree_cap = RUN_CAP.replace("run-cost", "tree").replace("[[cap]]", '[[cap]]\nper = "run_tree"')
    hourly = '[[spend_anomaly]]\nname = "hourly"\nmin_active_hours = 1'
    policy = read_policy_toml(RUN_CAP + tree_cap + HOURLY_BUDGET + hourly)
    engine = Engine(policy)
    for number in range(20_000):
        at_ms = NINE_MS + number * 500
        call = messages.llm_call(at_ms, run_id=f"run-{number % 2}", cost_nanousd=MOST_NANOUSD, root_run_id="run-0")
        engine.handle(UsageSeen(call, at_ms))
    for hour in range(1, 4):
        at_ms = NINE_MS + 10_000_000 + hour * HOUR_MS
        engine.handle(UsageSeen(messages.llm_call(at_ms, cost_nanousd=MOST_NANOUSD), at_ms))
        engine.handle(UsageSeen(messages.llm_call(at_ms - HOUR_MS, cost_nanousd=MOST_NANOUSD), at_ms))
    effects = engine.drain_effects()
    assert all(encode(effect.value) for effect in effects)
    assert {"run-cost", "tree", "hour"} <= {e.value.rule for e in effects if isinstance(e.value, Alert)}
    again = restarted(engine, policy)
    assert again.digest == engine.digest


def test_a_restored_run_keeps_its_limits_whatever_touches_it_first() -> None:
    """A budget alert that lists the runs must not wake them half: their caps hold afterwards."""
    policy = read_policy_toml(RUN_CAP + HOURLY_BUDGET)
    engine = Engine(policy)
    replay(engine, seen(messages.llm_call(NINE_MS, run_id="a", usd=4)))
    engine = restarted(engine, policy)
    other = messages.llm_call(NINE_MS + 1, run_id="b", usd=4.9)
    late = messages.llm_call(NINE_MS + 2, run_id="c", usd=4.9)
    assert told(alerts(engine, seen(other, late))) == [("hour", "open")]
    assert told(alerts(engine, seen(messages.llm_call(NINE_MS + 3, run_id="a", usd=1)))) == [("run-cost", "open")]


def test_a_restored_run_keeps_its_deadline() -> None:
    """A run that says nothing more after a restart still reaches its time."""
    policy = read_policy_toml('[[cap]]\nname = "time"\nmax_duration_s = 600\nthresholds = [1.0]')
    engine = Engine(policy)
    replay(engine, seen(messages.llm_call(NINE_MS)))
    engine = restarted(engine, policy)
    found = alerts(engine, [Ticked(NINE_MS + HOUR_MS // 2)])
    assert [(alert.rule, alert.ts_ms) for alert in found] == [("time", NINE_MS + 600 * SECOND_MS)]


@pytest.mark.parametrize(
    "last",
    [
        messages.run_finished(NINE_MS + 30 * HOUR_MS, run_id="unknown"),
        messages.outcome(NINE_MS + 30 * HOUR_MS, run_id="unknown"),
        messages.command_ack(NINE_MS + 30 * HOUR_MS, "unknown", run_id="run-1"),
    ],
    ids=["finish of a stranger", "outcome of a stranger", "answer to nothing"],
)
def test_a_tenant_s_clock_survives_a_restart(last: UsageMessage) -> None:
    """Whatever moved the clock last: what is too late stays too late."""
    policy = read_policy_toml(HOURLY_BUDGET)
    engine = Engine(policy)
    replay(engine, seen(messages.llm_call(NINE_MS), last))
    engine = restarted(engine, policy)
    stale = UsageSeen(messages.llm_call(NINE_MS + HOUR_MS, usd=100), NINE_MS + 2 * HOUR_MS)
    assert told(alerts(engine, [stale])) == [("data-quality", "open")]
    assert engine.counts.too_late == 1


@pytest.mark.parametrize(("per", "field"), [("session", "session_id"), ("run_tree", "root_run_id")])
def test_a_cap_that_a_new_policy_brings_counts_what_its_runs_have_spent(per: str, field: str) -> None:
    """Sessions and trees that nobody watched so far begin with what is known, and each run counts once."""
    engine = Engine(read_policy_toml(HOURLY_BUDGET.replace("10", "1000")))
    group: dict[str, Any] = {field: "group"}
    replay(
        engine,
        seen(*(messages.llm_call(NINE_MS + n, run_id=f"run-{n}", usd=2, **group) for n in range(3)),
             messages.run_finished(NINE_MS + 5, run_id="run-0")),
    )  # fmt: skip
    cap = f'[[cap]]\nname = "group-cost"\nper = "{per}"\nlimit_usd = 7\nthresholds = [1.0]\n'
    more = seen(messages.llm_call(NINE_MS + 9, run_id="run-1", usd=1))
    stimuli: list[Stimulus] = [PolicyChanged(read_policy_toml(cap), NINE_MS + 9), *more]
    assert [(alert.rule, alert.value) for alert in alerts(engine, stimuli)] == [("group-cost", 7 * USD)]


def test_a_history_that_a_new_policy_asks_for_begins_then() -> None:
    """A median may be asked for where only a budget was kept: nothing breaks, and the warm-up starts."""
    engine = Engine(read_policy_toml(HOURLY_BUDGET.replace('"hour"\nlimit', '"day"\nlimit').replace("10", "1000")))
    replay(engine, seen(messages.llm_call(NINE_MS, usd=1)))
    engine.handle(
        PolicyChanged(
            read_policy_toml('[[spend_anomaly]]\nname = "hourly"\nmin_active_hours = 2\nmin_history_hours = 2'),
            NINE_MS,
        )
    )
    calls = [messages.llm_call(NINE_MS + hour * HOUR_MS, run_id=f"r{hour}", usd=1) for hour in range(1, 3)]
    spike = messages.llm_call(NINE_MS + 3 * HOUR_MS, usd=6)
    assert [alert.baseline for alert in alerts(engine, seen(*calls, spike))] == [USD]


def test_a_lower_limit_is_judged_at_once_and_a_higher_one_relieves() -> None:
    """A change of policy does not wait for the next spend, and never resets what was spent."""
    engine = Engine(read_policy_toml(HOURLY_BUDGET))
    replay(engine, seen(messages.llm_call(NINE_MS, usd=8)))
    lower = read_policy_toml(HOURLY_BUDGET.replace("limit_usd = 10", "limit_usd = 8"))
    higher = read_policy_toml(HOURLY_BUDGET.replace("limit_usd = 10", "limit_usd = 9"))
    assert told(alerts(engine, [PolicyChanged(lower, NINE_MS)])) == [("hour", "open")]
    assert told(alerts(engine, [PolicyChanged(higher, NINE_MS)])) == [("hour", "resolved")]
    assert told(alerts(engine, seen(messages.llm_call(NINE_MS + 1, usd=1)))) == [("hour", "open")]


def test_an_ordered_exception_survives_a_restart_and_ends_on_time() -> None:
    """Also one about a scope in which nothing had been spent when it was ordered."""
    policy = read_policy_toml(HOURLY_BUDGET)
    engine = Engine(policy)
    until_ms = NINE_MS + 20 * MINUTE_MS
    replay(engine, [OperatorSeen(messages.limit_exception(NINE_MS, "hour", "acme", 50 * USD, until_ms), NINE_MS)])
    engine = restarted(engine, policy)
    assert not alerts(engine, seen(messages.llm_call(NINE_MS + MINUTE_MS, usd=40, workflow="docs", owner="ana")))
    found = alerts(engine, seen(messages.llm_call(until_ms - 1, usd=1), messages.llm_call(until_ms, usd=1)))
    assert [(alert.ts_ms, alert.limit) for alert in found] == [(until_ms, 10 * USD)]


def commands(engine: Engine, stimuli: Iterable[Stimulus]) -> list[str]:
    """The actions that these lead to."""
    return [effect.value.action for effect in replay(engine, stimuli) if isinstance(effect.value, Command)]


@pytest.mark.parametrize("restarts", [False, True])
def test_an_order_counts_once(*, restarts: bool) -> None:
    """A resume that is sent again, by a retry or by somebody who copied it, does not lift the kill that came after."""
    policy = read_policy_toml(RUN_CAP + RUN_CAP.replace("run-cost", "more").replace("limit_usd = 5", "limit_usd = 9"))
    engine = Engine(policy)
    assert commands(engine, seen(messages.llm_call(NINE_MS, usd=5))) == ["kill"]
    resume = messages.resume(NINE_MS + SECOND_MS, "run", "run-1")
    assert commands(engine, [OperatorSeen(resume, NINE_MS + SECOND_MS)]) == ["resume"]
    assert commands(engine, seen(messages.llm_call(NINE_MS + 2 * SECOND_MS, usd=5))) == ["kill"]
    if restarts:
        engine = restarted(engine, policy)
    assert commands(engine, [OperatorSeen(resume, NINE_MS + 3 * SECOND_MS)]) == []
    again = messages.resume(NINE_MS + 4 * SECOND_MS, "run", "run-1")
    assert commands(engine, [OperatorSeen(again, NINE_MS + 4 * SECOND_MS)]) == ["resume"]


def test_an_event_cannot_pass_for_an_order() -> None:
    """Whoever reports usage under an order's id does not keep the order from being obeyed."""
    engine = Engine(read_policy_toml(RUN_CAP))
    order = messages.resume(NINE_MS + 1, "run", "run-1")
    replay(engine, seen(messages.llm_call(NINE_MS, usd=5, event_id=order.message_id)))
    assert commands(engine, [OperatorSeen(order, NINE_MS + 1)]) == ["resume"]


def test_beyond_the_limit_of_live_runs_spend_still_counts() -> None:
    """Made-up run ids cost their tenant's budget all the same, take no memory, and somebody is told."""
    engine = Engine(read_policy_toml("max_live_runs_per_tenant = 5\n" + HOURLY_BUDGET))
    calls = [messages.llm_call(NINE_MS + n, run_id=f"made-up-{n}", usd=0.1) for n in range(100)]
    assert told(alerts(engine, seen(*calls))) == [("live-runs", "open"), ("hour", "open")]
    assert sum(key.startswith(b'["run"') for key, _ in engine.drain_rows()) == 5


def test_a_session_sleeps_and_forgets_nothing() -> None:
    """A call hours after all else counts in its session with what the session had used up before."""
    text = 'finished_run_minutes = 600\n[[cap]]\nname = "session"\nper = "session"\nlimit_usd = 5\n'
    engine = Engine(read_policy_toml(text))
    first = messages.llm_call(NINE_MS, session_id="s", usd=1)
    end = messages.run_finished(NINE_MS + 1, session_id="s")
    late = messages.llm_call(NINE_MS + 3 * HOUR_MS, session_id="s", usd=4)
    assert [alert.value for alert in alerts(engine, seen(first, end, late))] == [5 * USD]


def test_an_incident_that_comes_back_has_an_alert_of_its_own() -> None:
    """A run id that is used again after it was forgotten is told of again, under an alert id nobody has seen."""
    engine = Engine(read_policy_toml(RUN_CAP.replace("enforce", "alert")))
    first = alerts(engine, [*seen(messages.llm_call(NINE_MS, usd=6)), Ticked(NINE_MS + 8 * DAY_MS)])
    second = alerts(engine, seen(messages.llm_call(NINE_MS + 9 * DAY_MS, usd=6)))
    assert told([first[0], first[-1], *second]) == [
        ("run-cost", "open"),
        ("run-cost", "resolved"),
        ("run-cost", "open"),
    ]
    assert first[0].incident_id == second[0].incident_id
    assert first[0].alert_id != second[0].alert_id


def test_a_tree_that_becomes_part_of_another_takes_its_incident_along() -> None:
    """What was told of a tree is over when it turns out to be a branch; the whole tree is judged instead."""
    engine = Engine(
        read_policy_toml(RUN_CAP.replace("[[cap]]", '[[cap]]\nper = "run_tree"').replace("enforce", "alert"))
    )
    found = alerts(
        engine,
        seen(messages.llm_call(NINE_MS, run_id="branch", usd=5),
             messages.llm_call(NINE_MS + 1, run_id="branch", parent_run_id="root", usd=1)),
    )  # fmt: skip
    assert [(alert.state, alert.scope["run_tree"], alert.value) for alert in found] == [
        ("open", "branch", 5 * USD), ("resolved", "branch", 5 * USD), ("open", "root", 5 * USD),
    ]  # fmt: skip


def test_commands_name_their_cause() -> None:
    """Every command names the event that led to it, and how long it holds."""
    engine = Engine(read_policy_toml(RUN_CAP))
    call = messages.llm_call(NINE_MS, usd=5)
    (command,) = [e.value for e in replay(engine, seen(call)) if isinstance(e.value, Command)]
    assert (command.cause_event_id, command.cause_ts_ms, command.issued_ms) == (call.event_id, NINE_MS, NINE_MS)
    assert command.expires_ms == NINE_MS + 7 * DAY_MS


def test_unpriced_calls_of_yesterday_do_not_add_to_an_incident_of_yesterday() -> None:
    """The counts of a day and the day that an alert names are the same day."""
    engine = Engine(read_policy_toml('[[unpriced]]\nname = "u"\nmin_calls = 3'))
    midnight_ms = MONDAY_MS + DAY_MS
    calls = [
        UsageSeen(messages.llm_call(midnight_ms + offset, model="house-model", cost_nanousd=None), midnight_ms + 5)
        for offset in (1, 2, -3)
    ]
    (alert,) = alerts(engine, calls)
    assert (alert.window_start_ms, alert.evidence["calls"]) == (midnight_ms, 3)


@pytest.mark.parametrize("later_ms", [3 * HOUR_MS, 6 * DAY_MS])
def test_an_outcome_that_a_person_gives_later_books_to_the_workflow_of_its_run(later_ms: int) -> None:
    """Hours or days after the run's end, and across a restart."""
    policy = read_policy_toml(RUN_CAP)
    engine = Engine(policy)
    run: list[UsageMessage] = [
        messages.run_started(NINE_MS, workflow="docs", owner="ana"),
        messages.llm_call(NINE_MS + 1, usd=1),
        messages.run_finished(NINE_MS + 2),
    ]
    replay(engine, [*seen(*run), Ticked(NINE_MS + later_ms - 1)])
    engine = restarted(engine, policy)
    outcome = messages.outcome(NINE_MS + later_ms)
    effects = replay(engine, [*seen(outcome), Ticked(NINE_MS + later_ms + 2 * HOUR_MS)])
    rollups = [effect.value for effect in effects if isinstance(effect.value, Rollup)]
    assert {(rollup.workflow, rollup.accepted) for rollup in rollups if rollup.accepted} == {("docs", 1)}
