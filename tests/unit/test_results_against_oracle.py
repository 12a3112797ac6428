"""What runs come to, on seeded random streams: the books hold what a plain recount of the log finds."""

from collections import defaultdict
from random import Random
from typing import Any

import pytest

from models.engine import Engine
from models.rules.policy import read_policy_toml
from models.state.spend.results import OUTCOMES, ResultBook
from models.stimuli import Ticked, UsageSeen
from schemas.alert import Alert
from tests.support import messages, oracle
from tests.support.histories import Changelog, reborn
from tests.support.messages import DAY_MS, HOUR_MS, MINUTE_MS, MONDAY_MS, SECOND_MS, USD
from tests.support.oracle import Record, RunSums

POLICY = read_policy_toml("""
idle_run_minutes = 60
finished_run_minutes = 10
[[cost_per_accepted]]
name = "accepted"
limit_usd = 1
min_runs = 5
min_usd = 0
grace_hours = 3
[data_quality]
name = "data-quality"
ignore = ["unattributed"]
""")
IDLE_MS = HOUR_MS
SEEDS = range(1, 9)
DAYS = 4
RUNS = 160


def stream(seed: int) -> list[Record]:
    """Runs of three workflows that end, go on, are silent; what is said of them early, late, twice, and otherwise."""
    draw = Random(seed)
    records: list[Record] = []
    for number in range(RUNS):
        names: dict[str, Any] = {"run_id": f"r{number}", "tenant_id": draw.choice(("acme", "globex"))}
        workflow = draw.choice(("docs", "chat", "code"))
        at_ms = MONDAY_MS + draw.randrange(DAYS * DAY_MS)
        for _ in range(draw.choice((1, 1, 1, 2))):
            for _ in range(draw.randrange(1, 5)):
                at_ms += draw.randrange(1, 5 * MINUTE_MS)
                attempt = draw.choice((1, 1, 2))
                cost = draw.randrange(3 * USD)
                call = messages.llm_call(at_ms, **names, workflow=workflow, cost_nanousd=cost, attempt=attempt)
                late_ms = draw.choice((0, 0, 0, 40 * SECOND_MS, 30 * MINUTE_MS))
                records.append((call, at_ms + late_ms))
            if draw.random() < 0.7:
                at_ms += draw.randrange(1, MINUTE_MS)
                records.append((messages.run_finished(at_ms, **names), at_ms))
            said_ms = at_ms + draw.choice((1, 20 * MINUTE_MS, 2 * HOUR_MS, 30 * HOUR_MS))
            for _ in range(draw.choice((0, 1, 1, 2, 3))):
                records.append((messages.outcome(said_ms, **names, outcome=draw.choice(OUTCOMES[:-1])), said_ms))
                said_ms += draw.choice((1, 5 * MINUTE_MS, 9 * HOUR_MS))
            at_ms += draw.choice((MINUTE_MS, 20 * MINUTE_MS, 5 * HOUR_MS, 26 * HOUR_MS))
    return sorted(records, key=lambda record: record[1])


def booked(engine: Engine) -> RunSums:
    """What the books of an engine hold, by day."""
    sums: RunSums = defaultdict(lambda: (0, 0, 0))
    for tenant in engine._state.tenants.values():
        for book in tenant.results.values():
            for day_ms in {*book.days, *book.recent_days()}:
                add_day(sums, book, day_ms)
    return dict(sums)


def add_day(sums: RunSums, book: ResultBook, day_ms: int) -> None:
    day = book.day(day_ms).sums()
    for place, outcome in enumerate(OUTCOMES):
        found = day[3 * place : 3 * place + 3]
        if found[0]:
            key = (book.tenant_id, book.workflow, day_ms, outcome)
            sums[key] = tuple(old + new for old, new in zip(sums[key], found, strict=True))  # type: ignore[assignment]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_run_is_booked_once_as_what_it_came_to(seed: int) -> None:
    """Outcomes that come late, twice or contradict each other, runs that go on after their end, and restarts in
    between: runs, their cost and what was sent again add up, by workflow, day and outcome.
    """
    draw = Random(seed)
    records = stream(seed)
    engine, changelog = Engine(POLICY), Changelog()
    for message, append_ms in records:
        engine.handle(UsageSeen(message, append_ms))
        if draw.random() < 0.02:
            engine = reborn(engine, changelog, POLICY, draw)
    engine.handle(Ticked(records[-1][1] + 2 * HOUR_MS))
    assert booked(engine) == oracle.results(records, IDLE_MS), f"seed {seed}"


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_told_is_what_a_recount_finds(seed: int) -> None:
    """Every alert names what closed cohorts came to: the days it speaks of, counted again from the log so far."""
    records = stream(seed)
    engine, told = Engine(POLICY), 0
    for place, (message, append_ms) in enumerate(records):
        engine.handle(UsageSeen(message, append_ms))
        for effect in engine.drain_effects():
            if isinstance(effect.value, Alert) and effect.value.state == "open":
                told += 1
                check(effect.value, records[:place])
    assert told, f"seed {seed} tells nothing"


def check(alert: Alert, records: list[Record]) -> None:
    """The alert's figures lie within what is known by then: no accepted run twice, no cost that is not there."""
    days = alert.evidence["days"]
    start_ms = alert.ts_ms - alert.ts_ms % DAY_MS - (days - 1) * DAY_MS
    known = oracle.results(records, IDLE_MS)
    mine = {
        (day_ms, outcome): sums
        for (tenant, workflow, day_ms, outcome), sums in known.items()
        if (tenant, workflow) == (alert.tenant_id, alert.scope["workflow"]) and day_ms >= start_ms
    }
    for outcome in OUTCOMES[:-1]:
        counted = sum(sums[0] for (_, found), sums in mine.items() if found == outcome)
        assert alert.evidence[f"{outcome}_runs"] <= counted, alert
    assert alert.evidence["spent_nanousd"] <= sum(sums[1] for sums in mine.values()), alert
    accepted = alert.evidence["accepted_runs"]
    assert alert.value == alert.evidence["spent_nanousd"] // max(1, accepted)
    assert alert.summary.startswith("Nothing was accepted") == (not accepted)
