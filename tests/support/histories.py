"""Histories that engines are tried with: a policy, and what happens under it; and how they are lived through."""

import gzip
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from random import Random

import msgspec
import pytest

from models.effects import Effect
from models.engine import Engine
from models.rules.policy import Policy, read_policy_toml
from models.state.rows import row_digest
from models.stimuli import OperatorSeen, PolicyChanged, SpendDue, SpendSeen, Stimulus, Ticked, UsageSeen
from schemas.alert import Alert
from schemas.codec import decode_usage, encode
from schemas.control import Command
from schemas.duration import DAY_MS
from schemas.internal.spend import SpendDelta
from schemas.usage import UsageMessage
from tests.support.scenario import load, play, scenario_files
from tests.support.traffic import RandomTraffic, random_answer, random_order

DEMO = Path(__file__).parents[2] / "infra" / "demo"
DEMO_EVENTS = 8_000
SEEDS = (1, 2, 3)
ROUNDS = 1_400

EVERYTHING = """
version = "everything"
timezone = "Europe/Berlin"
premium_models = ["*premium*"]
unpriced_usd_per_million_tokens = 20
idle_run_minutes = 90
finished_run_minutes = 200
remember_days = 2
remind = { critical = [45], error = [45, 90], warning = [45], info = [45] }
[blast_radius]
max_kills_per_minute = 2
always_allowed = 1
[[budget]]
name = "tenant-hour"
period = "hour"
limit_usd = 12
at_limit = "pause"
mode = "enforce"
exceptions = [{ scope = "tenant-1", limit_usd = 40, until = 2026-11-23T12:20:00Z, why = "w", who = "a" }]
[[budget]]
name = "workflow-day"
group_by = ["tenant_id", "workflow"]
period = "day"
limit_usd = 150
[[budget]]
name = "model-week"
group_by = ["tenant_id", "model"]
period = "week"
limit_usd = 400
match = { model = ["gpt-4o", "gpt-5-premium"] }
[[budget]]
name = "company-hour"
group_by = []
period = "hour"
limit_usd = 60
at_limit = "pause"
mode = "enforce"
[[budget]]
name = "model-day"
group_by = ["model"]
period = "day"
limit_usd = 300
match = { workflow = ["docs", "chat"] }
[[spend_anomaly]]
name = "hourly-model"
group_by = ["model", "owner"]
min_active_hours = 3
min_history_hours = 3
multiplier = 1.5
[[cap]]
name = "run-cost"
limit_usd = 6
max_retries = 9
max_premium_calls = 12
max_duration_s = 5400
at_limit = "kill"
mode = "enforce"
[[cap]]
name = "session-cost"
per = "session"
limit_usd = 20
max_duration_s = 7200
at_limit = "kill"
mode = "enforce"
[[cap]]
name = "tree-cost"
per = "run_tree"
limit_usd = 25
max_calls = 40
at_limit = "kill"
mode = "enforce"
match = { workflow = ["docs", "unattributed"] }
[[spend_anomaly]]
name = "hourly"
min_active_hours = 3
min_history_hours = 3
multiplier = 2
[[spend_anomaly]]
name = "hourly-workflow"
group_by = ["tenant_id", "workflow"]
min_active_hours = 4
min_history_hours = 4
multiplier = 1.5
[[session_outlier]]
name = "outlier"
min_runs = 5
multiplier = 1.5
min_usd = 0.5
[[session_outlier]]
name = "session-outlier"
per = "session"
min_runs = 5
multiplier = 1.5
min_usd = 0.5
[[context_growth]]
name = "context"
min_runs = 5
min_tokens = 20_000
min_usd = 0.1
rebuilds_at = 2
still_at = 3
multiplier = 1.5
growth_multiplier = 1.1
size_multiplier = 1.1
at_limit = "pause"
mode = "enforce"
[[output_ratio]]
name = "ratio"
min_runs = 5
multiplier = 1.1
min_input_tokens = 1000
min_output_tokens = 100
min_usd = 0.1
[[token_spike]]
name = "spike"
min_runs = 5
multiplier = 1.5
min_input_tokens = 1000
min_output_tokens = 100
[[repeat]]
name = "repeat"
mode = "enforce"
[[cycle]]
name = "cycle"
mode = "shadow"
[[retry_storm]]
name = "retry_storm"
mode = "enforce"
[[error_streak]]
name = "error_streak"
[[cost_per_accepted]]
name = "accepted"
limit_usd = 0.5
min_runs = 5
min_accepted = 1
min_usd = 0
grace_hours = 2
[[cost_per_accepted]]
name = "accepted-by-version"
per = "prompt_version"
match = { workflow = ["docs", "unattributed"] }
limit_usd = 0.5
min_runs = 5
min_usd = 0
grace_hours = 5
[[expected_outcome]]
name = "expected-outcome"
min_runs = 1
min_usd = 0
multiplier = 1.2
grace_hours = 1
[[no_accepted_output]]
name = "no-output"
limit_usd = 4
at_limit = "pause"
mode = "enforce"
[[no_accepted_output]]
name = "no-output-of-a-session"
per = "session"
limit_usd = 9
[[budget_without_output]]
name = "budget-without-output"
period = "day"
limit_usd = 9
at_limit = "pause"
mode = "enforce"
[[premium_escalation]]
name = "premium-escalation"
tell_explained = true
at_limit = "downgrade"
mode = "enforce"
[[margin]]
name = "margin"
[[contract]]
tenant = "tenant-1"
value_usd = 90
period = "week"
[[contract]]
tenant = "tenant-2"
value_usd = 300
starts = 2026-11-24
max_share = 0.4
[[drift]]
name = "drift"
min_runs = 20
odds = 2
odds_unexplained = 2
min_usd = 0
[[variance]]
name = "variance"
min_runs = 10
min_days = 2
multiplier = 1.01
beyond = 1
[[trend]]
name = "trend"
min_runs = 10
[[daily_spend]]
name = "daily"
min_history_days = 2
min_active_days = 2
multiplier = 1.05
[[daily_spend]]
name = "daily-workflow"
group_by = ["tenant_id", "workflow"]
min_history_days = 2
min_active_days = 2
multiplier = 1.05
[[model_mix]]
name = "mix"
max_change = 0.02
min_usd = 0.1
min_active_days = 2
"""


class Case:
    """A policy and what happens under it."""

    def __init__(self, policy: Policy, stimuli: list[Stimulus]) -> None:
        self.policy = policy
        self.stimuli = stimuli
        self._straight: list[bytes] | None = None

    def straight(self) -> list[bytes]:
        """What comes out if nothing ever stops; lived through once."""
        if self._straight is None:
            engine = Engine(self.policy)
            for stimulus in self.stimuli:
                engine.handle(stimulus)
            self._straight = written(engine.drain_effects())
        return self._straight


@cache
def random_case(seed: int, rounds: int = ROUNDS, *, policies_change: bool = True) -> Case:
    """All message types, orders, ticks, and changes of policy; commands are answered now and then."""
    draw = Random(seed)
    policy = read_policy_toml(EVERYTHING)
    engine = Engine(policy)
    case = Case(policy, [])
    commands: list[Command] = []
    alerts: list[Alert] = []

    def happen(stimulus: Stimulus) -> None:
        case.stimuli.append(stimulus)
        engine.handle(stimulus)
        values = [effect.value for effect in engine.drain_effects()]
        commands.extend(value for value in values if isinstance(value, Command))
        alerts.extend(value for value in values if isinstance(value, Alert))
        for value in values:
            if isinstance(value, SpendDelta):
                happen(SpendSeen(value))

    for number, (message, append_ms) in enumerate(RandomTraffic(seed).messages(rounds)):
        happen(UsageSeen(message, append_ms))
        if draw.random() < 0.05:
            happen(UsageSeen(of_the_past(draw, message), append_ms))
        if draw.random() < 0.05:
            happen(Ticked(append_ms + draw.randrange(20_000)))
        if number % 10 == 0:
            happen(SpendDue())
        if commands and draw.random() < 0.05:
            happen(UsageSeen(random_answer(draw, commands, append_ms), append_ms))
        if commands and alerts and draw.random() < 0.02:
            happen(OperatorSeen(random_order(draw, commands, alerts, append_ms), append_ms))
        if policies_change and number == rounds * 2 // 3:
            text = EVERYTHING.replace("limit_usd = 12\n", "limit_usd = 9\n").replace(
                'per = "session"', 'per = "run"', 1
            )
            happen(PolicyChanged(read_policy_toml(text.replace("everything", "stricter")), append_ms))
        if policies_change and number == rounds * 5 // 6:
            happen(PolicyChanged(policy, append_ms))
    return case


def of_the_past(draw: Random, message: UsageMessage) -> UsageMessage:
    """A message like this one that happened some days before, and comes to be booked, or too late."""
    return msgspec.structs.replace(
        message,
        event_id=f"past-{message.event_id}",
        ts_ms=message.ts_ms - draw.randrange(DAY_MS, 9 * DAY_MS),
        backfill=draw.random() < 0.8,
    )


@cache
def demo_case() -> Case:
    """The first messages of the demo's log under the demo's policy."""
    lines = gzip.decompress((DEMO / "usage.jsonl.gz").read_bytes()).splitlines()[:DEMO_EVENTS]
    decoded = [decode_usage(line) for line in lines]
    policy = read_policy_toml((DEMO / "policy.toml").read_text(encoding="utf-8"))
    return Case(policy, [UsageSeen(message, message.ts_ms) for message in decoded])


@cache
def scenario_case(path: Path) -> Case:
    """What a scenario file has happen."""
    scenario = load(path)
    return Case(scenario.policy, play(scenario).stimuli)


Make = Callable[[], Case]
CASES = [
    *(pytest.param(lambda seed=seed: random_case(seed), id=f"random-{seed}") for seed in SEEDS),
    pytest.param(demo_case, id="demo"),
    *(pytest.param(lambda path=path: scenario_case(path), id=path.stem) for path in scenario_files()),
]
each_case = pytest.mark.parametrize("make", CASES)
"""Runs a test on every history, each named by its seed or file."""


def each_case_with(name: str, values: Sequence[float]) -> pytest.MarkDecorator:
    """Runs a test on every history with one value of an argument after the other, on the demo's with all of them."""
    params = [
        pytest.param(*case.values, value, id=f"{case.id}-{value}")
        for number, case in enumerate(CASES)
        for value in (values if case.id == "demo" else values[number % len(values) :][:1])
    ]
    return pytest.mark.parametrize(("make", name), params)


def written(effects: Iterable[Effect]) -> list[bytes]:
    """Effects as the bytes that would be published."""
    return [
        b"%s|%s|%s|%s" % (e.topic.encode(), e.key.encode(), str(e.signer).encode(), encode(e.value)) for e in effects
    ]


def first_difference(one: Sequence[bytes], other: Sequence[bytes]) -> str:
    """Where two outputs part, for the message of an assertion."""
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return f"effect {place}:\n{left.decode()}\n{right.decode()}"
    return f"{len(one)} and {len(other)} effects; the rest: {[*one[len(other) :], *other[len(one) :]][:2]}"


class Changelog:
    """What a compacted topic would hold."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def take(self, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Apply records in order."""
        for key, value in records:
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value

    def digest(self) -> int:
        """The sum that proves the rows."""
        return sum(row_digest(key, value) for key, value in self.rows.items()) % 2**64


def reborn(engine: Engine, changelog: Changelog, policy: Policy, draw: Random, at_ms: int = 0) -> Engine:
    """An engine made of another's rows, read in any order, by a worker that knows `policy`, in force since `at_ms`."""
    changelog.take(engine.drain_rows())
    rows = list(changelog.rows.items())
    draw.shuffle(rows)
    successor = Engine(policy)
    successor.restore(dict(rows), at_ms)
    return successor
