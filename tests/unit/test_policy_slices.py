"""Another policy is brought to one tenant after the other: what follows is what would have followed in one go."""

from collections import defaultdict
from collections.abc import Iterable
from random import Random
from typing import Any

import msgspec
import pytest

from models.baselines.hourly_history import HourlyHistory
from models.effects import Effect
from models.engine import Engine
from models.policy_changes import LATE_MS, MOST_EARLIER
from models.rules.policy import Policy, read_policy, read_policy_toml
from models.state.rows import HEADER, read_fields, read_header, read_key, row_key_of
from models.state.tenant import FORGET_MS
from models.stimuli import (
    CommandForged,
    OperatorSeen,
    PolicyChanged,
    RecordMoved,
    RecordRefused,
    Stimulus,
    Ticked,
    UsageSeen,
)
from schemas.alert import Alert
from schemas.control import Command, Target
from schemas.dead_letter import DeadLetter
from schemas.internal.spend import SpendDelta
from streams.worker.partition import Partition
from tests.support.histories import EVERYTHING, Changelog, first_difference, written
from tests.support.messages import DAY_MS, HOUR_MS, MONDAY_MS, llm_call, tool_call
from tests.support.policy_changes import CHANGES, changed
from tests.support.traffic import RandomTraffic, random_answer, random_order

SEEDS = range(4)
MESSAGES = 500
TENANTS = 15
BURST = 40
"""So many messages come while a change is on its way, each `STEP_MS` after the one before."""
STEP_MS = LATE_MS // BURST // 2


def history(seed: int) -> list[Stimulus]:
    """Messages of every kind, orders, answers and ticks of many tenants, some of them new; three policies, the second
    and the third within one burst.
    """
    draw = Random(seed)
    policy = read_policy_toml(EVERYTHING)
    engine = Engine(policy)
    stimuli: list[Stimulus] = []
    commands: list[Command] = []
    alerts: list[Alert] = []
    changes = {MESSAGES // 3, MESSAGES * 2 // 3, MESSAGES * 2 // 3 + BURST // 2}
    bursts = {place + number for place in changes for number in range(BURST)}

    def happen(stimulus: Stimulus) -> None:
        stimuli.append(stimulus)
        engine.handle(stimulus)
        values = [effect.value for effect in engine.drain_effects()]
        commands.extend(value for value in values if isinstance(value, Command))
        alerts.extend(value for value in values if isinstance(value, Alert))

    now_ms = 0
    for number, (message, append_ms) in enumerate(RandomTraffic(seed, tenants=TENANTS).messages(MESSAGES)):
        now_ms = now_ms + STEP_MS if number in bursts else append_ms
        if number in bursts and draw.random() < 0.3:
            happen(UsageSeen(msgspec.structs.replace(message, tenant_id=f"newcomer-{number % 7}"), now_ms))
        else:
            happen(UsageSeen(message, now_ms))
        if draw.random() < 0.2:
            happen(Ticked(now_ms))
        if commands and draw.random() < 0.1:
            happen(UsageSeen(random_answer(draw, commands, now_ms), now_ms))
        if commands and alerts and draw.random() < 0.1:
            happen(OperatorSeen(random_order(draw, commands, alerts, now_ms), now_ms))
        if draw.random() < 0.1:
            happen(_beside(draw, f"tenant-{draw.randrange(TENANTS)}", now_ms))
        if number in changes:
            policy = changed(policy, draw.choice(sorted(CHANGES)), draw)
            happen(PolicyChanged(policy, now_ms - draw.choice((0, 0, LATE_MS // 8))))
    stimuli.append(Ticked(now_ms + HOUR_MS))
    return stimuli


def _beside(draw: Random, tenant_id: str, now_ms: int) -> Stimulus:
    """What happens to a tenant without a message of its own."""
    letter = DeadLetter(
        topic="usage.v1", partition=0, offset=now_ms, key=tenant_id, reason="not_json", detail="no JSON", sha256="0",
        size_bytes=1, head_base64="", ts_ms=now_ms,
    )  # fmt: skip
    forged = CommandForged(tenant_id, Target("run", f"run-{draw.randrange(9)}"), "wrote a kill", "forged/0")
    moved = RecordMoved(tenant_id, "run-1", had_key=False)
    return draw.choice((RecordRefused(letter, tenant_id), forged, moved, Ticked(now_ms, tenant_id)))


def by_tenant(effects: Iterable[Effect]) -> dict[tuple[str, str], list[bytes]]:
    """What is published of each tenant on each topic, in order."""
    found: dict[tuple[str, str], list[Effect]] = defaultdict(list)
    for effect in effects:
        value = effect.value
        tenant = effect.key if isinstance(value, DeadLetter | SpendDelta) else value.tenant_id
        found[tenant, effect.topic].append(effect)
    return {place: written(found[place]) for place in sorted(found)}


def rows_of(changelog: Changelog, policy: Policy) -> dict[tuple[str, ...], Any]:
    """All rows but what follows how the log is cut into batches: event ids, how late a tenant's own row is, and of a
    scope that no rule watches any more when it was looked at, and its empty history.
    """
    rows: dict[tuple[str, ...], Any] = {}
    for key, value in changelog.rows.items():
        parts = read_key(key)
        is_empty = parts[0] == "history" and not len(HourlyHistory.from_bytes(read_fields(value)[0]))
        if parts[0] != "seen" and not is_empty:
            fields = list(read_fields(value))
            if parts[0] == "tenant":
                del fields[0]
            elif parts[0] == "scope" and parts[2] not in policy.meters:
                del fields[7]
            rows[parts] = (read_header(value), fields)
    return rows


def in_one_go(stimuli: Iterable[Stimulus]) -> tuple[list[Effect], Changelog]:
    """What is published and what is left if every change reaches all tenants at once."""
    engine, changelog = Engine(read_policy_toml(EVERYTHING)), Changelog()
    for stimulus in stimuli:
        engine.handle(stimulus)
    changelog.take(engine.drain_rows())
    return engine.drain_effects(), changelog


def some(engine: Engine, tenants: int) -> None:
    """Let so many tenants catch up."""
    left = [tenants]

    def enough() -> bool:
        left[0] -= 1
        return left[0] <= 0

    engine.catch_up(enough)


def in_slices(stimuli: list[Stimulus], draw: Random, *, crashes: bool) -> tuple[list[Effect], Changelog]:
    """The same with slices of a few tenants between what happens. A crash loses what was not committed; a worker comes
    back with the policy that it had, or with the one that is published next.
    """
    engine, changelog = Engine(read_policy_toml(EVERYTHING)), Changelog()
    published: list[Effect] = []
    place = committed = 0
    last_ms, change_ms = 0, -LATE_MS

    def commit() -> int:
        published.extend(engine.drain_effects())
        changelog.take(engine.drain_rows())
        assert engine.digest == changelog.digest()
        return place

    while place < len(stimuli):
        stimulus = stimuli[place]
        place += 1
        if isinstance(stimulus, PolicyChanged):
            change_ms = last_ms
            if crashes and draw.random() < 0.3:
                committed = commit()
                engine = come_back(changelog, stimulus, draw)
            else:
                engine.handle(stimulus._replace(at_once=False))
        else:
            last_ms = _time_of(stimulus) or last_ms
            if last_ms >= change_ms + LATE_MS:
                engine.catch_up()
            engine.handle(stimulus)
        if draw.random() < 0.15:
            some(engine, draw.randrange(1, 5))
        if draw.random() < 0.2:
            committed = commit()
        elif crashes and draw.random() < 0.08:
            place = committed
            engine = come_back(changelog, in_force(stimuli[:place]), draw)
    engine.catch_up()
    commit()
    return published, changelog


def come_back(changelog: Changelog, published: PolicyChanged, draw: Random) -> Engine:
    """The engine of a worker that reads back what was committed, and finds that policy on its topic."""
    rows = list(changelog.rows.items())
    draw.shuffle(rows)
    engine = Engine(published.policy)
    engine.restore(dict(rows), published.at_ms, at_once=False)
    return engine


def in_force(stimuli: Iterable[Stimulus]) -> PolicyChanged:
    """The last change of policy, or the policy that everything begins with."""
    first = PolicyChanged(read_policy_toml(EVERYTHING), 0)
    return [first, *[one for one in stimuli if isinstance(one, PolicyChanged)]][-1]


def _time_of(stimulus: Any) -> int:
    """0 for what has no time of its own."""
    return int(stimulus.now_ms if isinstance(stimulus, Ticked) else getattr(stimulus, "append_ms", 0))


@pytest.mark.parametrize("crashes", [False, True], ids=["running", "crashing"])
@pytest.mark.parametrize("seed", SEEDS)
def test_slices_change_nothing(seed: int, crashes: bool) -> None:
    """Whatever happens to tenants before a change reaches them, wherever a worker ends and comes back, and although
    another policy is published meanwhile: each tenant is told and commanded the same, once, and the same state is left.
    """
    stimuli = history(seed)
    expected, left = in_one_go(stimuli)
    actual, changelog = in_slices(stimuli, Random(seed), crashes=crashes)
    one, other = by_tenant(expected), by_tenant(actual)
    assert one.keys() == other.keys(), f"seed {seed}"
    for place in one:
        assert one[place] == other[place], f"seed {seed}, {place}: {first_difference(one[place], other[place])}"
    policy = in_force(stimuli).policy
    assert rows_of(changelog, policy) == rows_of(left, policy), f"seed {seed}"


def told(effects: Iterable[Effect]) -> list[tuple[str, str, str]]:
    """Tenant, rule and state of each alert."""
    return [(one.value.tenant_id, one.value.rule, one.value.state) for one in effects if isinstance(one.value, Alert)]


def commanded(effects: Iterable[Effect]) -> list[tuple[str, str, str]]:
    """Tenant, action and target of each command."""
    return [
        (one.value.tenant_id, one.value.action, one.value.target.id)
        for one in effects
        if isinstance(one.value, Command)
    ]


def capped(version: str, limit_usd: int, **header: Any) -> Policy:
    """A policy of one budget and one cap that stop."""
    limit = {"limit_usd": limit_usd, "mode": "enforce"}
    return read_policy(
        {
            "version": version,
            "budget": [{"name": "daily", "period": "day", "at_limit": "pause", **limit}],
            "cap": [{"name": "run-cost", "at_limit": "kill", **limit}],
            "repeat": [{"name": "loop", "mode": "enforce", "action": "kill"}],
            **header,
        }
    )


def spent(engine: Engine, tenants: int, at_ms: int = MONDAY_MS, usd: float = 2) -> None:
    """So much of each of so many tenants, in one run each."""
    for number in range(tenants):
        engine.handle(UsageSeen(llm_call(at_ms, usd=usd, tenant_id=f"tenant-{number}", run_id="r"), at_ms))
    engine.drain_effects()


def test_a_loop_is_judged_while_thousands_of_tenants_wait() -> None:
    """Another policy holds nobody up: a run that loops is killed at the call that says so, before the policy has
    reached anybody but its own tenant, and the others follow by themselves, a slice at a time.
    """
    many = 5_000
    reached: list[None] = []
    partition = Partition(0, 1, capped("wide", 100), {}, None, breathe=lambda: reached.append(None))
    spent(partition.engine, many)
    partition.change_policy(PolicyChanged(capped("narrow", 1), MONDAY_MS))
    effects: list[Effect] = []
    calls = 0
    while not commanded(effects):
        calls += 1
        call = tool_call(MONDAY_MS + calls, tenant_id="tenant-7", run_id="looping", args_hash="a", result_hash="x")
        partition.engine.usage(call, MONDAY_MS + calls)
        effects += [one for one in partition.engine.drain_effects() if "looping" in str(one.value)]
        assert calls < 20
    assert len(reached) < 20
    assert partition.engine.waiting == many - 1
    slices = 0
    while partition.engine.waiting:
        some(partition.engine, 500)
        slices += 1
    assert slices == many // 500
    kills = [tenant for tenant, action, _ in commanded(partition.engine.drain_effects()) if action == "kill"]
    assert len(kills) == len(set(kills)) == many - 1


def test_a_lowered_limit_stops_at_the_next_call() -> None:
    """Where money flows it is in force at once: whoever waits is judged by it before its next call counts."""
    engine = Engine(capped("wide", 100))
    spent(engine, 3)
    engine.handle(PolicyChanged(capped("narrow", 1), MONDAY_MS, at_once=False))
    assert not engine.has_effects
    engine.handle(UsageSeen(llm_call(MONDAY_MS + 5, usd=1, tenant_id="tenant-1", run_id="r"), MONDAY_MS + 5))
    assert [one for one in commanded(engine.drain_effects()) if one[1] == "kill"] == [("tenant-1", "kill", "r")]
    engine.catch_up()
    kills = [one for one in commanded(engine.drain_effects()) if one[1] == "kill"]
    assert kills == [("tenant-0", "kill", "r"), ("tenant-2", "kill", "r")]


@pytest.mark.parametrize("by_message", [False, True])
def test_nobody_is_blamed_for_a_command_that_was_not_given_yet(by_message: bool) -> None:
    """A tenant that the policy reaches long after it came into force is commanded then: the answer is awaited from then
    on, and calls made before are no disobedience.
    """
    engine = Engine(capped("wide", 100))
    spent(engine, 2)
    late_ms = MONDAY_MS + 10 * 60_000
    engine.handle(PolicyChanged(capped("narrow", 1), MONDAY_MS, at_once=False))
    if not by_message:
        engine.catch_up(None, late_ms)
    engine.handle(UsageSeen(llm_call(late_ms, usd=1, tenant_id="tenant-1", run_id="r"), late_ms))
    engine.handle(Ticked(late_ms + 30_000))
    effects = engine.drain_effects()
    kills = [one.value for one in effects if isinstance(one.value, Command) and one.value.tenant_id == "tenant-1"]
    assert [(kill.action, kill.issued_ms) for kill in kills if kill.action == "kill"] == [("kill", late_ms)]
    assert "spending-after-kill" not in {rule for _, rule, _ in told(effects)}
    engine.handle(Ticked(late_ms + 61_000))
    assert ("tenant-1", "spending-after-kill", "open") in told(engine.drain_effects())


def timed(version: str, max_duration_s: int) -> Policy:
    """A policy under which a run may take so long."""
    cap = {"name": version, "max_duration_s": max_duration_s, "at_limit": "kill", "mode": "enforce"}
    return read_policy({"version": version, "cap": [cap]})


@pytest.mark.parametrize("restarted", [False, True])
def test_what_falls_due_between_two_policies(restarted: bool) -> None:
    """A tenant that neither has reached is judged by the first at the time at which that has something to say."""
    found = []
    for at_once in (True, False):
        engine = Engine(timed("long", 1_000))
        spent(engine, 3)
        engine.handle(PolicyChanged(timed("short", 2), MONDAY_MS + 1_000, at_once=at_once))
        engine.handle(PolicyChanged(timed("longer", 2_000), MONDAY_MS + 4_000, at_once=at_once))
        if restarted and not at_once:
            rows, engine = dict(engine.drain_rows()), Engine(engine.policy)
            engine.restore({key: value for key, value in rows.items() if value is not None}, at_once=False)
        engine.catch_up(None, MONDAY_MS + 5_000)
        found.append(by_tenant(engine.drain_effects()))
    assert found[0] == found[1]
    assert len(found[0]["tenant-0", "control.v1"]) == 1
    assert b'"policy_version":"short"' in found[0]["tenant-0", "alerts.v1"][0]


def test_who_comes_while_others_wait_follows_already() -> None:
    """A tenant that is first heard of under another policy does not have to be brought to it, also after a restart."""
    engine = Engine(capped("wide", 100))
    spent(engine, 3)
    engine.handle(PolicyChanged(capped("narrow", 1), MONDAY_MS, at_once=False))
    engine.handle(UsageSeen(llm_call(MONDAY_MS, tenant_id="new", run_id="r"), MONDAY_MS))
    assert engine.waiting == 3
    rows = {key: value for key, value in engine.drain_rows() if value is not None}
    engine = Engine(engine.policy)
    engine.restore(rows, at_once=False)
    assert engine.waiting == 3
    assert set(engine.tenants) == {"new", "tenant-0", "tenant-1", "tenant-2"}


def test_so_many_policies_may_be_on_their_way() -> None:
    """One that is published before the last has reached everybody is passed through in order; beyond some, all catch
    up with those at once, so that nothing grows with what is published.
    """
    engine = Engine(capped("first", 100))
    spent(engine, 3)
    for number in range(3 * MOST_EARLIER):
        engine.handle(PolicyChanged(capped(f"v{number}", 1 + number % 2 * 99), MONDAY_MS + number, at_once=False))
        assert len(engine._state.earlier) <= MOST_EARLIER
    engine.catch_up()
    pauses = [one for one in commanded(engine.drain_effects()) if one[0] == "tenant-1" and one[2].endswith("tenant-1")]
    assert [action for _, action, _ in pauses] == ["pause", "resume"] * (3 * MOST_EARLIER // 2)
    assert not engine.is_catching_up
    assert not engine._state.earlier


def test_a_tenant_may_be_forgotten_while_it_waits() -> None:
    """Its days end at their own time, before a policy that is published after that."""
    engine, changelog = Engine(capped("wide", 100)), Changelog()
    spent(engine, 2)
    for day in range(FORGET_MS // DAY_MS):
        engine.handle(Ticked(MONDAY_MS + day * DAY_MS))
    engine.handle(PolicyChanged(capped("narrow", 1), MONDAY_MS + FORGET_MS - DAY_MS, at_once=False))
    engine.handle(PolicyChanged(capped("wide", 100), MONDAY_MS + FORGET_MS + 2 * DAY_MS, at_once=False))
    engine.catch_up()
    changelog.take(engine.drain_rows())
    assert not engine.tenants
    assert {read_key(key)[0] for key in changelog.rows} <= {"policy", "seen"}
    assert engine.digest == changelog.digest()


def test_nobody_is_stopped_by_a_limit_of_the_past() -> None:
    """However late a tenant is reached: what falls due after a policy was published is judged by that policy."""
    engine = Engine(timed("short", 20))
    spent(engine, 2)
    engine.handle(PolicyChanged(timed("longer", 2_000), MONDAY_MS + 1_000, at_once=False))
    late_ms = MONDAY_MS + 60_000
    engine.handle(UsageSeen(llm_call(late_ms, tenant_id="tenant-0", run_id="r"), late_ms))
    engine.catch_up(None, late_ms)
    engine.handle(Ticked(late_ms))
    assert not commanded(engine.drain_effects())


def test_who_waits_is_known() -> None:
    """Whoever asks for tenants hears of all of them, and those that wait count for how many there may be."""
    engine = Engine(capped("wide", 100, max_tenants_per_partition=3))
    spent(engine, 3)
    engine.handle(PolicyChanged(capped("narrow", 1, max_tenants_per_partition=3), MONDAY_MS, at_once=False))
    spent(engine, 1, usd=0)
    assert set(engine.tenants) == {"tenant-0", "tenant-1", "tenant-2"}
    assert (engine.heard(MONDAY_MS), engine.has_heard("tenant-2", MONDAY_MS)) == (3, True)
    engine.handle(UsageSeen(llm_call(MONDAY_MS, usd=1, tenant_id="new", run_id="r"), MONDAY_MS))
    assert "new" not in engine.tenants


@pytest.mark.parametrize("place", [0, 1], ids=["the oldest", "one between"])
def test_an_earlier_policy_that_nobody_can_read_any_more(place: int) -> None:
    """Whoever followed it is judged anew by the one after it, and its rows are gone at the end."""
    engine, changelog = Engine(capped("first", 100)), Changelog()
    spent(engine, 3)
    for number, limit_usd in enumerate((50, 1)):
        engine.handle(PolicyChanged(capped(f"v{number}", limit_usd), MONDAY_MS + number, at_once=False))
        some(engine, 1)
    effects = engine.drain_effects()
    changelog.take(engine.drain_rows())
    key = row_key_of("earlier_policy", str(place))
    changelog.rows[key] = HEADER.pack(0, 0, 0) + msgspec.msgpack.encode((b"[1]", MONDAY_MS + place))
    engine = Engine(engine.policy)
    engine.restore(changelog.rows)
    effects += engine.drain_effects()
    changelog.take(engine.drain_rows())
    assert sorted(one[0] for one in commanded(effects) if one[1] == "kill") == ["tenant-0", "tenant-1", "tenant-2"]
    assert {read_key(key)[0] for key in changelog.rows}.isdisjoint({"earlier_policy", "followed_policy"})
    assert engine.digest == changelog.digest()
