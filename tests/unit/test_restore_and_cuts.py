"""What must hold of the engine whatever the rules: restarts, batches and duplicates change nothing."""

import gzip
import json
import math
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest

from models.effects import Effect
from models.engine import Engine
from models.rules.policy import Policy, read_policy_toml
from models.state.rows import row_digest
from models.stimuli import OperatorSeen, PolicyChanged, Stimulus, Ticked, UsageSeen
from schemas.alert import Alert
from schemas.codec import decode_usage, encode
from schemas.control import Command
from tests.support import messages
from tests.support.messages import DAY_MS, HOUR_MS, MINUTE_MS, MONDAY_MS, USD, RandomTraffic
from tests.support.scenario import load, play, scenario_files

DEMO = Path(__file__).parents[2] / "infra" / "demo"
DEMO_EVENTS = 8_000
SEEDS = (1, 2, 3)
ROUNDS = 2_500

EVERYTHING = """
version = "everything"
timezone = "Europe/Berlin"
premium_models = ["*premium*"]
unpriced_usd_per_million_tokens = 20
idle_run_minutes = 90
finished_run_minutes = 200
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
"""


class Case:
    """A policy and what happens under it."""

    def __init__(self, policy: Policy, stimuli: list[Stimulus]) -> None:
        self.policy = policy
        self.stimuli = stimuli


@cache
def random_case(seed: int) -> Case:
    """All message types, orders, ticks, and one change of policy; commands are answered now and then."""
    draw = Random(seed)
    policy = read_policy_toml(EVERYTHING)
    engine = Engine(policy)
    case = Case(policy, [])
    commands: list[Command] = []
    alerts: list[Alert] = []

    def happen(stimulus: Stimulus) -> None:
        case.stimuli.append(stimulus)
        engine.handle(stimulus)
        values = [effect.value for effect in engine.take_effects()]
        commands.extend(value for value in values if isinstance(value, Command))
        alerts.extend(value for value in values if isinstance(value, Alert))

    for number, (message, append_ms) in enumerate(RandomTraffic(seed).messages(ROUNDS)):
        happen(UsageSeen(message, append_ms))
        if draw.random() < 0.05:
            happen(Ticked(append_ms + draw.randrange(20_000)))
        if commands and draw.random() < 0.05:
            happen(UsageSeen(_answer(draw.choice(commands), append_ms), append_ms))
        if commands and alerts and draw.random() < 0.01:
            happen(OperatorSeen(_order(draw, commands, alerts, append_ms), append_ms))
        if number == ROUNDS * 2 // 3:
            text = EVERYTHING.replace("limit_usd = 12\n", "limit_usd = 9\n").replace(
                'per = "session"', 'per = "run"', 1
            )
            happen(PolicyChanged(read_policy_toml(text.replace("everything", "stricter"))))
        if number == ROUNDS * 5 // 6:
            happen(PolicyChanged(policy))
    return case


def _answer(command: Command, at_ms: int) -> Any:
    return messages.command_ack(at_ms, command.command_id, tenant_id=command.tenant_id, run_id=command.target.id)


def _order(draw: Random, commands: list[Command], alerts: list[Alert], at_ms: int) -> Any:
    command, alert = draw.choice(commands), draw.choice(alerts)
    match draw.randrange(4):
        case 0:
            return messages.resume(at_ms, command.target.type, command.target.id, command.tenant_id)
        case 1:
            return messages.acknowledge(at_ms, alert.incident_id, alert.tenant_id)
        case 2:
            return messages.feedback(at_ms, alert.incident_id, draw.choice(("noise", "planned")), alert.tenant_id)
        case _:
            until_ms = at_ms + draw.randrange(HOUR_MS)
            return messages.limit_exception(
                at_ms, "tenant-hour", alert.tenant_id, 30 * USD, until_ms, tenant_id=alert.tenant_id
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


CASES = [
    *(pytest.param(lambda seed=seed: random_case(seed), id=f"random-{seed}") for seed in SEEDS),
    pytest.param(demo_case, id="demo"),
    *(pytest.param(lambda path=path: scenario_case(path), id=path.stem) for path in scenario_files()),
]
each_case = pytest.mark.parametrize("make", CASES)


def straight(case: Case) -> list[bytes]:
    """What comes out if nothing ever stops."""
    engine = Engine(case.policy)
    for stimulus in case.stimuli:
        engine.handle(stimulus)
    return written(engine.take_effects())


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


def restarted(case: Case, cuts: set[int], draw: Random) -> list[bytes]:
    """What comes out if the engine is thrown away at each cut and made anew from its rows, read in any order."""
    engine, policy, changelog = Engine(case.policy), case.policy, Changelog()
    effects: list[Effect] = []
    for number, stimulus in enumerate(case.stimuli):
        engine.handle(stimulus)
        if isinstance(stimulus, PolicyChanged):
            policy = stimulus.policy
        if number in cuts:
            effects += engine.take_effects()
            changelog.take(engine.take_rows())
            assert engine.digest == changelog.digest()
            rows = list(changelog.rows.items())
            draw.shuffle(rows)
            engine = Engine(policy)
            engine.restore(dict(rows))
            assert engine.digest == changelog.digest()
    return written([*effects, *engine.take_effects()])


@each_case
@pytest.mark.parametrize("share", [0.003, 0.05, 1.0])
def test_restart_changes_nothing(make: Any, share: float) -> None:
    """Snapshot, restore and continue is the same as never having stopped, wherever it happens, byte for byte."""
    case = make()
    if share == 1.0 and len(case.stimuli) > 400:
        case = Case(case.policy, case.stimuli[:400])
    draw = Random(len(case.stimuli))
    cuts = {number for number in range(len(case.stimuli)) if draw.random() < share} | {len(case.stimuli) // 2}
    expected, actual = straight(case), restarted(case, cuts, draw)
    assert expected == actual, first_difference(expected, actual)


@each_case
@pytest.mark.parametrize("size", [1, 7, 997])
def test_batches_change_nothing(make: Any, size: int) -> None:
    """However the stream is cut into batches, the same comes out in the same order."""
    case = make()
    engine = Engine(case.policy)
    effects: list[Effect] = []
    for number, stimulus in enumerate(case.stimuli):
        engine.handle(stimulus)
        if number % size == 0:
            effects += engine.take_effects()
            engine.take_rows()
    expected, actual = straight(case), written([*effects, *engine.take_effects()])
    assert expected == actual, first_difference(expected, actual)


@each_case
def test_duplicates_change_nothing(make: Any) -> None:
    """Every tenth message delivered twice counts once, and so does every order."""
    case = make()
    twice = [
        copy
        for number, stimulus in enumerate(case.stimuli)
        for copy in ([stimulus, stimulus] if _comes_twice(number, stimulus) else [stimulus])
    ]
    expected, actual = straight(case), straight(Case(case.policy, twice))
    assert expected == actual, first_difference(expected, actual)


def _comes_twice(number: int, stimulus: Stimulus) -> bool:
    return isinstance(stimulus, OperatorSeen) or (isinstance(stimulus, UsageSeen) and number % 10 == 0)


@each_case
def test_input_is_untouched(make: Any) -> None:
    """Messages belong to whoever sent them."""
    case = make()
    before = [encode(stimulus.message) for stimulus in case.stimuli if isinstance(stimulus, UsageSeen)]
    straight(case)
    assert before == [encode(stimulus.message) for stimulus in case.stimuli if isinstance(stimulus, UsageSeen)]


@each_case
def test_numbers_are_numbers(make: Any) -> None:
    """No effect carries NaN, infinity, or a null in their place."""
    for line in straight(make()):
        body = json.loads(line.split(b"|", 3)[3])
        assert all(math.isfinite(value) for value in _numbers(body)), line
        assert body.get("value", 0) is not None, line


def _numbers(value: Any) -> Iterable[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float):
        yield value


@each_case
def test_memory_is_bounded(make: Any) -> None:
    """Ten idle days later only what is meant to last is left: scopes, their histories, what runs usually cost."""
    case = make()
    engine = Engine(case.policy)
    changelog = Changelog()
    for stimulus in case.stimuli:
        engine.handle(stimulus)
    changelog.take(engine.take_rows())
    end_ms = max(stimulus.append_ms for stimulus in case.stimuli if isinstance(stimulus, UsageSeen))
    engine.handle(Ticked(end_ms + 10 * DAY_MS))
    changelog.take(engine.take_rows())
    kinds = {json.loads(key)[0] for key in changelog.rows}
    assert kinds <= {"scope", "history", "owners", "cohort", "tenant", "seen", "policy"}, kinds
    assert engine.digest == changelog.digest()


def test_first_hour_of_a_stranger_is_silent() -> None:
    """With the default policy nobody hears of a tenant of which nothing is known yet, unless it spends much at once."""
    engine = Engine(read_policy_toml(""))
    for minute in range(60):
        at_ms = MONDAY_MS + minute * MINUTE_MS
        for run in range(5):
            call = messages.llm_call(
                at_ms, run_id=f"run-{run}", usd=0.005 * (1 + minute * run), prompt_hash=f"{minute}", workflow="docs"
            )
            engine.handle(UsageSeen(call, at_ms))
    assert not [effect for effect in engine.take_effects() if effect.topic != "rollups.v1"]


@each_case
def test_alerts_and_commands_tell_a_story(make: Any) -> None:
    """Alert ids are unique, incidents open before they end, command numbers rise, only operators lift a kill."""
    case = make()
    engine = Engine(case.policy)
    told: set[str] = set()
    open_incidents: set[str] = set()
    numbers: dict[str, int] = {}
    standing: dict[str, str] = {}
    for stimulus in case.stimuli:
        engine.handle(stimulus)
        for effect in engine.take_effects():
            if isinstance(effect.value, Alert):
                alert = effect.value
                assert alert.alert_id not in told, alert
                told.add(alert.alert_id)
                assert (alert.state == "open") == (alert.incident_id not in open_incidents), alert
                open_incidents.add(alert.incident_id)
                if alert.state == "resolved":
                    open_incidents.remove(alert.incident_id)
            elif isinstance(effect.value, Command):
                command = effect.value
                assert command.seq > numbers.get(effect.key, 0), command
                numbers[effect.key] = command.seq
                if effect.signer == "operator":
                    ordered = command.action == "resume" and isinstance(stimulus, OperatorSeen)
                    assert ordered or command.rule == "operator", command  # a kill meets those born later as well
                elif command.action == "resume":
                    assert standing.get(effect.key) in ("pause", "downgrade"), command
                standing[effect.key] = command.action
                assert command.expires_ms > command.issued_ms, command
