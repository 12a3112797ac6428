"""Another policy is published while no worker runs: what follows is what would have followed in a running one."""

import json
from collections.abc import Mapping
from random import Random
from typing import Any

import msgspec
import pytest

from models.effects import Effect
from models.engine import Engine
from models.rules.policy import read_policy_toml
from models.state.policy_row import POLICY_KEY
from models.state.rows import HEADER
from models.stimuli import OperatorSeen, PolicyChanged, UsageSeen
from schemas.alert import Alert
from tests.support import messages
from tests.support.histories import Case, Changelog, Make, each_case, first_difference, random_case, reborn, written
from tests.support.messages import HOUR_MS, MINUTE_MS, MONDAY_MS, USD
from tests.support.policy_changes import CHANGES, changed, copied

SEED = 20
SOME = 4
"""So many changes of policy happen in the course of a scenario."""


def moments(case: Case, kinds: list[str], draw: Random) -> dict[int, str]:
    """Number of a stimulus -> the kind of change that comes after it."""
    places = range(len(case.stimuli))
    return dict(zip(sorted(draw.sample(places, min(len(kinds), len(places)))), kinds, strict=False))


def running(case: Case, changes: Mapping[int, PolicyChanged]) -> list[list[bytes]]:
    """What comes out of an engine that never stops, from one change to the next."""
    engine = Engine(case.policy)
    parts: list[list[bytes]] = []
    for number, stimulus in enumerate(case.stimuli):
        engine.handle(stimulus)
        if (change := changes.get(number)) is not None:
            parts.append(written(engine.drain_effects()))
            engine.handle(change)
    return [*parts, written(engine.drain_effects())]


def restarting(case: Case, changes: Mapping[int, PolicyChanged], draw: Random) -> list[list[bytes]]:
    """What comes out if a worker stops before each change, and another one starts with the policy after it."""
    engine, changelog = Engine(case.policy), Changelog()
    parts: list[list[bytes]] = []
    effects: list[Effect] = []
    for number, stimulus in enumerate(case.stimuli):
        engine.handle(stimulus)
        if (change := changes.get(number)) is not None:
            effects += engine.drain_effects()
            parts.append(written(effects))
            effects = []
            engine = reborn(engine, changelog, change.policy, draw, change.at_ms)
        elif draw.random() < 0.002:
            effects += engine.drain_effects()
            engine = reborn(engine, changelog, engine.policy, draw)
    changelog.take(engine.drain_rows())
    assert engine.digest == changelog.digest()
    return [*parts, written([*effects, *engine.drain_effects()])]


def policies(case: Case, kinds: Mapping[int, str], draw: Random) -> dict[int, PolicyChanged]:
    """Every change as a policy, each of the one before: in the midst of messages, or some time after the latest."""
    policy, changes, latest_ms = case.policy, {}, 0
    for number, stimulus in enumerate(case.stimuli):
        if isinstance(stimulus, PolicyChanged):
            policy = stimulus.policy
        elif isinstance(stimulus, UsageSeen):
            latest_ms = max(latest_ms, stimulus.append_ms)
        if number in kinds:
            policy = changed(policy, kinds[number], draw)
            changes[number] = PolicyChanged(policy, latest_ms + draw.choice((-MINUTE_MS, 0, 10 * MINUTE_MS, HOUR_MS)))
    return changes


def check(case: Case, kinds: list[str], seed: int) -> None:
    """Fail at the first change after which a restart has made a difference."""
    draw = Random(seed)
    places = moments(case, kinds, draw)
    changes = policies(case, places, draw)
    expected, actual = running(case, changes), restarting(case, changes, draw)
    for kind, one, other in zip(["nothing", *places.values()], expected, actual, strict=True):
        assert one == other, f"seed {seed}, after {kind}: {first_difference(one, other)}"


@each_case
def test_some_changes_while_no_worker_runs(make: Make) -> None:
    """Whatever has happened, a policy taken up at a restart does what it would have done at once, byte for byte."""
    draw = Random(SEED)
    check(make(), draw.sample(sorted(CHANGES), SOME), SEED)


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_while_no_worker_runs(kind: str) -> None:
    """The same for each kind of change: there and back and there again, in the middle of everything."""
    case = random_case(SEED, 600)
    check(case, [kind] * 4, SEED)


def row_of(source: Any) -> bytes:
    """The policy's row with that in place of its tables."""
    return HEADER.pack(0, 0, 0) + msgspec.msgpack.encode((source,))


UNREADABLE = {
    "a setting that is gone": row_of(json.dumps({"cap": [{"name": "old", "max_dreams": 3}]}).encode()),
    "no table": row_of(b"[1]"),
    "no JSON": row_of(b"{"),
    "no text": row_of(7),
    "no fields": HEADER.pack(0, 0, 0) + msgspec.msgpack.encode(()),
    "no row": b"\x00\x01\x02",
    "empty": b"",
}
"""What may stand in the policy's row instead of a policy that this version can read."""


@pytest.mark.parametrize("value", UNREADABLE.values(), ids=UNREADABLE)
def test_a_policy_that_cannot_be_read_any_more(value: bytes) -> None:
    """Nothing counted is lost or doubled, in run, session, tree or scope, and the new policy judges at once."""
    draw = Random(SEED)
    case = random_case(SEED, 600, policies_change=False)
    moment = len(case.stimuli) // 2
    policy = changed(case.policy, "limits-lowered", draw)
    expected = running(case, {moment: PolicyChanged(policy, 0)})[1]
    first, changelog = Engine(case.policy), Changelog()
    for stimulus in case.stimuli[: moment + 1]:
        first.handle(stimulus)
    changelog.take(first.drain_rows())
    changelog.rows[POLICY_KEY] = value
    engine = Engine(policy)
    engine.restore(changelog.rows)
    assert engine.digest == changelog.digest()
    for stimulus in case.stimuli[moment + 1 :]:
        engine.handle(stimulus)
    actual = written(engine.drain_effects())
    assert expected == actual, first_difference(expected, actual)


@each_case
def test_the_same_policy_once_more_is_no_news(make: Make) -> None:
    """A change of policy has all its consequences at once: the same policy after it leads to nothing at all."""
    case = make()
    draw = Random(SEED)
    engine = Engine(case.policy)
    for stimulus in case.stimuli:
        engine.handle(stimulus)
        if draw.random() < 0.01 or isinstance(stimulus, PolicyChanged):
            policy = changed(engine.policy, draw.choice(sorted(CHANGES)), draw)
            engine.handle(PolicyChanged(policy, 0))
            engine.drain_effects()
            engine.handle(PolicyChanged(copied(policy), 0))
            assert not engine.has_effects, f"seed {SEED}: {engine.drain_effects()[0]}"


BUDGET = """
[[budget]]
name = "owner-day"
group_by = ["tenant_id", "owner"]
period = "day"
limit_usd = 5
[[data_quality]]
name = "data-quality"
ignore = ["unattributed"]
"""


@pytest.mark.parametrize("what", ["policy", "exception"])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_scope_begins_with_its_first_spend(what: str, restarts: bool) -> None:
    """An outcome names a scope in which nobody has spent; what is changed then does not make its first record late."""
    nine_ms = MONDAY_MS + 9 * HOUR_MS
    engine, changelog = Engine(read_policy_toml(BUDGET)), Changelog()
    engine.handle(UsageSeen(messages.llm_call(nine_ms, owner="bo", usd=1), nine_ms))
    at_ms = nine_ms + 2 * HOUR_MS
    engine.handle(UsageSeen(messages.outcome(at_ms, owner="ana"), at_ms))
    if restarts:
        engine = reborn(engine, changelog, engine.policy, Random(SEED))
    if what == "policy":
        engine.handle(PolicyChanged(read_policy_toml(BUDGET.replace("limit_usd = 5", "limit_usd = 4")), at_ms))
    else:
        order = messages.limit_exception(at_ms, "owner-day", "acme/ana", 4 * USD, at_ms + HOUR_MS)
        engine.handle(OperatorSeen(order, at_ms))
    engine.drain_effects()
    spent_ms = nine_ms + HOUR_MS
    call = messages.llm_call(spent_ms, run_id="run-2", owner="ana", usd=3)
    engine.handle(UsageSeen(call, at_ms + MINUTE_MS))
    alerts = [effect.value for effect in engine.drain_effects() if isinstance(effect.value, Alert)]
    assert [(alert.level, alert.limit, alert.ts_ms) for alert in alerts] == [(0.5, 4 * USD, spent_ms)]
