"""Who is under a kill in the end is exactly who a slow and simple recount finds, on seeded random streams."""

from random import Random
from typing import Any

import pytest

from models.engine import Engine
from models.rules.policy import read_policy_toml
from models.stimuli import OperatorSeen, Ticked, UsageSeen
from schemas.control import Command, Target
from schemas.operator import OperatorMessage
from schemas.usage import LlmCall
from tests.support import messages
from tests.support.kill_oracle import Happening, RunId, killed_runs
from tests.support.messages import HOUR_MS, USD
from tests.support.traffic import RandomTraffic

SEEDS = (*range(31, 43), 100, 217)
COUNT = 1_200
LIMIT_USD = 3

POLICY = f"""
idle_run_minutes = 10080
finished_run_minutes = 1440
remember_days = 35
[blast_radius]
max_kills_per_minute = 1000000
always_allowed = 1000000
[[cap]]
name = "run"
limit_usd = {LIMIT_USD}
at_limit = "kill"
mode = "enforce"
[[stop_rule]]
name = "stop-rule"
mode = "alert"
"""


def history(seed: int) -> list[Happening]:
    """Usage in which every call has a price, and orders about single runs, each sent once."""
    draw = Random(seed)
    happenings: list[Happening] = []
    runs: list[RunId] = []
    for drawn, append_ms in RandomTraffic(seed, step_ms=20_000, pause_chance=0.002).messages(COUNT):
        message = drawn
        if isinstance(drawn, LlmCall) and drawn.cost_nanousd is None:
            message = messages.llm_call(drawn.ts_ms, run_id=drawn.run_id, tenant_id=drawn.tenant_id)
        happenings.append((message, append_ms))
        runs.append((message.tenant_id, message.run_id))
        if draw.random() < 0.15:
            happenings.append((_order(draw, draw.choice(runs[-40:]), append_ms), append_ms))
    return happenings


def _order(draw: Random, run: RunId, at_ms: int) -> OperatorMessage:
    tenant_id, run_id = run
    if draw.random() < 0.1:
        return messages.kill(at_ms, Target("run", run_id), tenant_id)
    terms: dict[str, Any] = draw.choice(
        (
            {},
            {"limit_nanousd": draw.randrange(20 * USD)},
            {"until_ms": at_ms + draw.randrange(1, 2 * HOUR_MS)},
            {"limit_nanousd": draw.randrange(20 * USD), "until_ms": at_ms + draw.randrange(1, 2 * HOUR_MS)},
        )
    )
    return messages.resume(at_ms, "run", run_id, tenant_id, **terms)


@pytest.mark.parametrize("seed", SEEDS)
def test_who_is_under_a_kill_in_the_end(seed: int) -> None:
    """A run at its cap is stopped, goes on as far as an operator allows, and is stopped again there; never else."""
    happenings = history(seed)
    engine = Engine(read_policy_toml(POLICY))
    standing: dict[RunId, str] = {}
    given = 0
    until_ms = happenings[-1][1] + 3 * HOUR_MS
    for message, append_ms in happenings:
        if isinstance(message, OperatorMessage):
            engine.handle(OperatorSeen(message, append_ms))
        else:
            engine.handle(UsageSeen(message, append_ms))
    engine.handle(Ticked(until_ms))
    for effect in engine.drain_effects():
        if isinstance(effect.value, Command):
            standing[effect.value.tenant_id, effect.value.target.id] = effect.value.action
            given += effect.value.action == "kill"
    actual = {run for run, action in standing.items() if action == "kill"}
    expected = killed_runs(LIMIT_USD * USD, happenings, until_ms)
    assert actual == expected, f"seed {seed}: only commanded {actual - expected}, only due {expected - actual}"
    assert 5 < len(expected) < given, "some are stopped, and some of these are let go on"
