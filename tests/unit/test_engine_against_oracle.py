"""The engine finds exactly what a slow and simple recount finds, on seeded random streams."""

from collections import Counter
from fractions import Fraction
from random import Random
from typing import Any

import pytest

from models.engine import Engine
from models.rules.policy import read_policy_toml
from models.stimuli import Ticked, UsageSeen
from schemas.alert import Alert
from schemas.rollup import Rollup
from schemas.usage import LlmCall
from tests.support import messages, oracle
from tests.support.messages import DAY_MS, HOUR_MS, MONDAY_MS, USD
from tests.support.oracle import BudgetRule, Cap, HourlyRule, Record
from tests.support.traffic import RandomTraffic

SEEDS = range(11, 17)
COUNT = 3_000

POLICY = """
timezone = "Europe/Berlin"
idle_run_minutes = 10080
remember_days = 35
finished_run_minutes = 1440
[[budget]]
name = "hour"
period = "hour"
limit_usd = 12.5
thresholds = [0.25, 0.5, 0.8, 1.0, 1.5]
overrides = { tenant-1 = 7 }
[[budget]]
name = "day"
group_by = ["tenant_id", "workflow"]
period = "day"
limit_usd = 60.1
[[budget]]
name = "week"
period = "week"
limit_usd = 30
match = { workflow = "docs" }
[[budget]]
name = "month"
period = "month"
limit_usd = 150
at_limit = "pause"
mode = "enforce"
[[cap]]
name = "run"
limit_usd = 3.3
max_calls = 20
max_tool_calls = 7
max_retries = 4
[[spend_anomaly]]
by_spread = false
page_usd = 0
name = "hourly"
multiplier = 1.7
min_active_hours = 5
min_history_hours = 6
min_usd = 0.5
"""
ZONE = "Europe/Berlin"
BUDGETS = [
    BudgetRule("hour", "hour", 12_500_000_000, thresholds=(0.25, 0.5, 0.8, 1.0, 1.5), overrides={"tenant-1": 7 * USD}),
    BudgetRule("day", "day", 60_100_000_000, group_by=("tenant_id", "workflow"), timezone=ZONE),
    BudgetRule("week", "week", 30 * USD, match={"workflow": "docs"}, timezone=ZONE),
    BudgetRule("month", "month", 150 * USD, timezone=ZONE),
]
CAPS = [
    Cap("run", "cost_nanousd", 3_300_000_000),
    Cap("run", "calls", 20),
    Cap("run", "tool_calls", 7),
    Cap("run", "retries", 4),
]
HOURLY = HourlyRule("hourly", Fraction(17, 10), floor_nanousd=USD // 2, min_active_hours=5, min_history_hours=6)


def stream(seed: int) -> list[Record]:
    """A stream with a tenth sent twice, none of it by a model that has a price of its own."""
    draw = Random(seed)
    records: list[Record] = []
    for drawn, append_ms in RandomTraffic(seed, step_ms=100_000).messages(COUNT):
        message = drawn
        if isinstance(drawn, LlmCall) and drawn.cost_nanousd is None:
            message = messages.llm_call(drawn.ts_ms, run_id=drawn.run_id, tenant_id=drawn.tenant_id)
        records.append((message, append_ms))
        if draw.random() < 0.1:
            records.append((message, append_ms))
    return records


def engine_values(policy: str, records: list[Record]) -> list[Any]:
    """Everything the engine publishes over these records and the two days after."""
    engine = Engine(read_policy_toml(policy))
    for message, append_ms in records:
        engine.handle(UsageSeen(message, append_ms))
    engine.handle(Ticked(records[-1][1] + 2 * DAY_MS))
    return [effect.value for effect in engine.drain_effects()]


def found(values: list[Any], detector: str) -> list[Alert]:
    """Newly told alerts of one detector."""
    return [
        value
        for value in values
        if isinstance(value, Alert) and value.detector == detector and value.state in ("open", "escalated")
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_budgets(seed: int) -> None:
    """Every crossing of every budget, in its own period however late, by the same event and amount; and no other."""
    records = stream(seed)
    alerts = found(engine_values(POLICY, records), "budget")
    actual: Counter[tuple[object, ...]] = Counter(
        (a.rule, tuple(a.scope.values()), a.window_start_ms, a.level, a.value, a.cause_event_id) for a in alerts
    )
    expected = Counter(tuple(one) for rule in BUDGETS for one in oracle.budget_crossings(rule, records))
    assert actual == expected, f"seed {seed}: {actual - expected} {expected - actual}"
    assert {rule.name for rule in BUDGETS} == {a.rule for a in alerts}, "the stream reaches every budget"


@pytest.mark.parametrize("seed", SEEDS)
def test_caps(seed: int) -> None:
    """Every level of every counter of every run, by the same event."""
    records = stream(seed)
    alerts = found(engine_values(POLICY, records), "cap")
    actual: Counter[tuple[object, ...]] = Counter(
        (a.rule, a.evidence["counter"], a.tenant_id, a.run_id, a.level, a.value, a.cause_event_id) for a in alerts
    )
    expected = Counter(tuple(one) for cap in CAPS for one in oracle.cap_crossings(cap, records))
    assert actual == expected, f"seed {seed}: {actual - expected} {expected - actual}"
    assert {a.evidence["counter"] for a in alerts} == {cap.counter for cap in CAPS}


@pytest.mark.parametrize("seed", SEEDS)
def test_hourly_spend(seed: int) -> None:
    """Every first hour of an incident, late ones too, with the same median; breaches stay out of it."""
    records = stream(seed)
    alerts = [a for a in found(engine_values(POLICY, records), "hourly_spend") if a.severity == "critical"]
    actual: Counter[tuple[object, ...]] = Counter(
        (a.rule, a.tenant_id, a.window_start_ms, a.value, Fraction(a.baseline or 0), a.cause_event_id) for a in alerts
    )
    expected = Counter(tuple(one) for one in oracle.hourly_breaches(HOURLY, records))
    assert actual == expected, f"seed {seed}: {actual - expected} {expected - actual}"
    assert len(alerts) > 5


@pytest.mark.parametrize("seed", SEEDS)
def test_totals(seed: int) -> None:
    """The last rollup of each workflow and hour, added up, is every nano-dollar that was sent, once."""
    records = stream(seed)
    last = {
        (value.tenant_id, value.workflow, value.hour_start_ms): value
        for value in engine_values(POLICY, records)
        if isinstance(value, Rollup)
    }
    actual: Counter[str] = Counter()
    for rollup in last.values():
        actual[rollup.tenant_id] += rollup.cost_nanousd
    assert dict(actual) == oracle.totals(records), f"seed {seed}"


@pytest.mark.parametrize("seed", range(5, 9))
def test_steep_hours_become_normal_as_the_oracle_says(seed: int) -> None:
    """Over three weeks with a step up in the middle, both agree on which hours open an incident."""
    draw = Random(seed)
    records: list[Record] = []
    for hour in range(21 * 24):
        at_ms = MONDAY_MS + hour * HOUR_MS
        for part in range(draw.randrange(4)):
            usd = draw.lognormvariate(0, 0.6) * (8 if hour > 240 else 1)
            ts_ms = at_ms + part * 600_000
            records.append((messages.llm_call(ts_ms, run_id=f"run-{hour}", usd=usd), ts_ms))
    policy = '[[spend_anomaly]]\nname = "steps"\nmultiplier = 3\nby_spread = false\npage_usd = 0'
    alerts = [a for a in found(engine_values(policy, records), "hourly_spend") if a.severity == "critical"]
    rule = HourlyRule("steps", Fraction(3))
    expected = [(one.hour_ms, one.value_nanousd, one.median_nanousd) for one in oracle.hourly_breaches(rule, records)]
    assert [(a.window_start_ms, a.value, Fraction(a.baseline or 0)) for a in alerts] == expected
    assert len(expected) > 3
