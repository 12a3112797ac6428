"""What all tenants spend together, over partitions that restart, repeat and lag: the plain sum, in the right hours."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from random import Random

import pytest

from models.effects import Effect
from models.engine import Engine
from models.rules.policy import read_policy_toml
from models.state.spend.unsent import MOST_BYTES, UNSENT_KEY
from models.state.tenant import Tenant
from models.stimuli import OperatorSeen, PolicyChanged, SpendDue, SpendSeen, UsageSeen
from schemas.alert import Alert
from schemas.codec import encode
from schemas.internal.spend import ALL_TENANTS, ScopeSpend, SpendDelta
from streams.kafka.partitioner import partition_of
from streams.tools.backtest import FileLog, effects_of
from streams.tools.replay.replay import Replay
from streams.tools.scorecard import Scorecard
from tests.support.histories import Changelog
from tests.support.messages import HOUR_MS, MONDAY_MS, limit_exception, llm_call
from tests.support.oracle import Record, counted

PARTITIONS = 3
HOME = partition_of(ALL_TENANTS.encode(), PARTITIONS)
LIMIT_NANOUSD = 40 * 10**9
THRESHOLDS = (0.5, 0.8, 1.0, 2.0)
POLICY = read_policy_toml(
    """
    [[budget]]
    name = "company"
    group_by = []
    period = "hour"
    limit_usd = 400
    [[budget]]
    name = "feature"
    group_by = ["feature"]
    period = "hour"
    limit_usd = 40
    thresholds = [0.5, 0.8, 1.0, 2.0]
    [[budget]]
    name = "feature-month"
    group_by = ["feature"]
    period = "month"
    limit_usd = 4000
    """
)
EVENTS = 1_500


def traffic(draw: Random) -> list[Record]:
    """Calls of a dozen tenants over six hours, in the order of appends: many less than a day late, some sent twice."""
    records: list[Record] = []
    for number in range(EVENTS):
        append_ms = MONDAY_MS + 30 * HOUR_MS + number * 6 * HOUR_MS // EVENTS
        late_ms = draw.choice((0, 0, 0, draw.randrange(20 * HOUR_MS)))
        call = llm_call(
            append_ms - late_ms,
            tenant_id=f"tenant-{draw.randrange(12)}",
            run_id=f"run-{number}",
            feature=draw.choice(("search", "chat")),
            owner=draw.choice(("ana", "bob")),
            cost_nanousd=draw.randrange(1, 500_000_000),
        )
        records += [(call, append_ms)] * (2 if draw.random() < 0.1 else 1)
    return records


class Partition:
    """One partition's engine, the log of its tenants, and what it has committed."""

    def __init__(self, usage: list[Record]) -> None:
        self.usage = usage
        self.engine = Engine(POLICY)
        self.changelog = Changelog()
        self.taken = [0, 0]
        """Of its usage and of all deltas, what has been taken in."""
        self.committed = [0, 0]

    def take(self, deltas: list[SpendDelta], draw: Random) -> None:
        """Take in a few records of each input."""
        for message, append_ms in self.usage[self.taken[0] :][: draw.choice((0, draw.randrange(60)))]:
            self.engine.handle(UsageSeen(message, append_ms))
            self.taken[0] += 1
        for delta in deltas[self.taken[1] :][: draw.randrange(4)]:
            self.engine.handle(SpendSeen(delta))
            self.taken[1] += 1

    def commit(self) -> list[Effect]:
        """Everything that follows becomes visible, and the rows with it."""
        effects = self.engine.drain_effects()
        self.changelog.take(self.engine.drain_rows())
        self.committed = list(self.taken)
        return effects

    def crash(self, draw: Random) -> None:
        """What was not committed never was."""
        self.engine = Engine(POLICY)
        self.engine.restore(dict(draw.sample(list(self.changelog.rows.items()), len(self.changelog.rows))))
        self.taken = list(self.committed)

    def is_done(self, deltas: list[SpendDelta]) -> bool:
        """Whether all of its inputs are committed."""
        return self.committed == [len(self.usage), len(deltas)]


def live(records: list[Record], draw: Random) -> tuple[Tenant, list[Alert], list[SpendDelta]]:
    """Live through a log: the tenant that stands for all, what was told of it, and the deltas."""
    partitions = [
        Partition([one for one in records if partition_of(one[0].tenant_id.encode(), PARTITIONS) == number])
        for number in range(PARTITIONS)
    ]
    deltas: list[SpendDelta] = []
    told: list[Alert] = []
    while not all(one.is_done(deltas if number == HOME else []) for number, one in enumerate(partitions)):
        number = draw.randrange(PARTITIONS)
        partition = partitions[number]
        partition.take(deltas if number == HOME else [], draw)
        if draw.random() < 0.3:
            partition.engine.handle(SpendDue())
        if draw.random() < 0.2:
            partition.crash(draw)
            continue
        if partition.taken[0] == len(partition.usage):
            partition.engine.handle(SpendDue())
        for effect in partition.commit():
            if isinstance(effect.value, SpendDelta):
                deltas.append(effect.value)
            elif isinstance(effect.value, Alert) and effect.key == ALL_TENANTS:
                told.append(effect.value)
    company = partitions[HOME].engine.tenants[ALL_TENANTS]
    assert isinstance(company, Tenant)
    assert all(ALL_TENANTS not in one.engine.tenants for number, one in enumerate(partitions) if number != HOME)
    return company, told, deltas


def test_a_replay_counts_the_same(tmp_path: Path) -> None:
    """A backtest over the log of all partitions comes to what the workers came to: the same incidents at the same
    levels, and the deltas stay inside.
    """
    draw = Random(1)
    records = traffic(draw)
    _, told, _ = live(records, draw)
    lines = [{"topic": "usage.v1", "append_ms": append_ms, "value": message} for message, append_ms in records]
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\n".join(map(encode, lines)))
    effects = list(effects_of(POLICY, path, Scorecard(), progress=False))
    replayed = [effect.value for effect in effects if isinstance(effect.value, Alert) and effect.key == ALL_TENANTS]
    assert highest(replayed) == highest(told)
    assert {effect.topic for effect in effects} == {"alerts.v1", "rollups.v1", "runs.v1"}


@pytest.mark.parametrize(("as_recorded", "levels"), [(False, [1.0]), (True, [1.0, 2.0])])
def test_in_a_backtest_the_runs_of_all_tenants_obey(tmp_path: Path, levels: list[float], *, as_recorded: bool) -> None:
    """What a budget across tenants pauses in a log waits, whoever's it is, and what is outside of its scope goes on."""
    calls = [
        llm_call(
            MONDAY_MS + number * 60_000, usd=1.0, tenant_id=f"t{number % 2}", run_id=f"r{number % 2}",
            feature="chat" if number % 5 else "search", owner="ana", workflow="w", event_id=f"e{number}",
        )
        for number in range(20)
    ]  # fmt: skip
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\n".join(map(encode, calls)))
    policy = read_policy_toml(
        """
        [[budget]]
        name = "chat"
        group_by = []
        match = { feature = "chat" }
        period = "hour"
        limit_usd = 5
        thresholds = [1.0, 2.0]
        at_limit = "pause"
        mode = "enforce"
        [[budget]]
        name = "search"
        group_by = ["feature"]
        match = { feature = "search" }
        period = "hour"
        limit_usd = 4
        thresholds = [1.0]
        """
    )
    scorecard = Scorecard()
    replay = Replay(policy, scorecard, as_recorded=as_recorded)
    told = [effect.value for effect in replay.effects(FileLog(path, progress=False).lines())]
    alerts = [alert for alert in told if isinstance(alert, Alert) and alert.state != "resolved"]
    assert [alert.level for alert in alerts if alert.rule == "chat"] == levels
    assert [alert.level for alert in alerts if alert.rule == "search"] == [1.0]


def highest(told: Iterable[Alert]) -> dict[str, float]:
    """Incident -> the highest level told of it."""
    found: dict[str, float] = {}
    for alert in told:
        found[alert.incident_id] = max(alert.level, found.get(alert.incident_id, 0.0))
    return found


def test_what_was_booked_of_an_earlier_day_counts_in_its_month() -> None:
    """Spend that came too late and is booked by hand counts for all tenants together as it does for its own: in the
    running month, judged with the present, and nobody is told of the hour that is over.
    """
    engine = Engine(POLICY)
    now_ms = MONDAY_MS + 30 * HOUR_MS
    past = llm_call(MONDAY_MS - 48 * HOUR_MS, usd=2000.0, feature="search", backfill=True)
    for stimulus in (UsageSeen(llm_call(now_ms, usd=1.0, feature="search"), now_ms), UsageSeen(past, now_ms)):
        engine.handle(stimulus)
    told = sent_on(engine)
    found = [(alert.rule, alert.level, alert.value) for alert in told if alert.rule != "data-quality"]
    assert found == [("feature-month", 0.5, 2001 * 10**9)]
    company = engine.tenants[ALL_TENANTS]
    assert isinstance(company, Tenant)
    assert all(scope.spend("hour") == 10**9 for scope in company.scopes.values())


def sent_on(engine: Engine) -> list[Alert]:
    """What is told once the spend so far has come in, by the one partition that there is."""
    engine.handle(SpendDue())
    effects = engine.drain_effects()
    for effect in effects:
        if isinstance(effect.value, SpendDelta):
            engine.handle(SpendSeen(effect.value))
    return [effect.value for effect in (*effects, *engine.drain_effects()) if isinstance(effect.value, Alert)]


def test_an_exception_raises_the_limit_of_all_tenants() -> None:
    """An operator's order under the name that stands for all reaches the company's budget, and ends by itself."""
    engine = Engine(POLICY)
    until_ms = MONDAY_MS + 2 * HOUR_MS
    order = limit_exception(MONDAY_MS, "company", ALL_TENANTS, 2000 * 10**9, until_ms, ALL_TENANTS)
    engine.handle(OperatorSeen(order, MONDAY_MS))
    levels = []
    for hour in (0, 2):
        at_ms = MONDAY_MS + hour * HOUR_MS + 1
        engine.handle(UsageSeen(llm_call(at_ms, usd=400.0), at_ms))
        told = [alert for alert in sent_on(engine) if alert.rule == "company" and alert.state == "open"]
        levels += [(hour, alert.level) for alert in told]
    assert levels == [(2, 1.0)]


def test_names_without_end_make_neither_row_nor_record_large() -> None:
    """Whoever makes up names fills the row of what is not sent yet: it leaves before it is large; nothing is lost."""
    policy = read_policy_toml('[[budget]]\nname = "b"\ngroup_by = ["user", "feature"]\nperiod = "day"\nlimit_usd = 1')
    engine = Engine(policy)
    rows, sums, largest = 0, 0, 0
    for number in range(3_000):
        call = llm_call(MONDAY_MS, cost_nanousd=number, user=f"{number}" + "ü" * 250, feature="f" * 256)
        engine.handle(UsageSeen(call, MONDAY_MS))
        if number % 7 == 0 or number == 2_999:
            rows = max([rows, *(len(value or b"") for key, value in engine.drain_rows() if key == UNSENT_KEY)])
    engine.handle(SpendDue())
    for effect in engine.drain_effects():
        if isinstance(effect.value, SpendDelta):
            largest = max(largest, len(encode(effect.value)))
            sums += sum(one.nanousd for one in effect.value.amounts)
    assert rows < 2 * MOST_BYTES
    assert largest < 2 * MOST_BYTES
    assert sums == sum(range(3_000))


def test_without_such_a_rule_nothing_is_kept_and_nothing_sent() -> None:
    """Who has no limit across tenants pays nothing for it: no row, no delta."""
    engine = Engine(read_policy_toml(""))
    engine.handle(UsageSeen(llm_call(MONDAY_MS, usd=5.0), MONDAY_MS))
    engine.handle(SpendDue())
    assert UNSENT_KEY not in dict(engine.drain_rows())
    assert not [effect for effect in engine.drain_effects() if effect.topic == "spend.v1"]


def test_spend_of_a_rule_that_is_gone_is_left_out() -> None:
    """A policy reaches partitions one after the other: what a rule counted that is not in force here counts nowhere,
    and what others count is not touched by it. Nor does what no partition would have sent.
    """
    engine = Engine(POLICY)
    engine.handle(UsageSeen(llm_call(MONDAY_MS, usd=5.0, feature="chat"), MONDAY_MS))
    engine.handle(SpendDue())
    (delta,) = [effect.value for effect in engine.drain_effects() if isinstance(effect.value, SpendDelta)]
    rules = ('name = "c"\ngroup_by = []', 'name = "own"')
    tables = "\n".join(f'[[budget]]\n{rule}\nperiod = "day"\nlimit_usd = 5' for rule in rules)
    other = Engine(read_policy_toml(tables))
    other.handle(SpendSeen(delta))
    own, across = other.policy.tenant_meters, other.policy.across_meters
    for meter_id, values in ((own[0].meter_id, ("acme",)), (across[0].meter_id, ("one too many",))):
        other.handle(SpendSeen(SpendDelta(ts_ms=MONDAY_MS, amounts=[ScopeSpend(meter_id, values, "", MONDAY_MS, 1)])))
    company = other.tenants[ALL_TENANTS]
    assert isinstance(company, Tenant)
    assert {scope.values: scope.total_nanousd for scope in company.scopes.values()} == {(): 5 * 10**9}
    other.handle(PolicyChanged(POLICY, MONDAY_MS))
    assert [scope.total_nanousd for scope in company.scopes.values()] == [5 * 10**9], "what was counted stays"


@pytest.mark.parametrize("seed", range(6))
def test_the_sum_over_tenants_is_the_plain_sum(seed: int) -> None:
    """Whatever order partitions work in, wherever they die, however deltas are cut, with late and repeated messages:
    every scope's total and each of its hours equal a plain sum over the log, and each level is told once.
    """
    draw = Random(seed)
    records = traffic(draw)
    company, told, deltas = live(records, draw)
    hours: dict[tuple[str, ...], dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for charge in counted(records):
        for values in ((), (charge.dimensions["feature"],)):
            hours[values][charge.at_ms - charge.at_ms % HOUR_MS] += charge.cost_nanousd
    assert {scope.values for scope in company.scopes.values()} == set(hours)
    for scope in company.scopes.values():
        expected = hours[scope.values]
        assert scope.total_nanousd == sum(expected.values()), f"seed {seed}: {scope.values}"
        assert scope.history is not None
        found = {hour: scope.history.hours.spend(hour) for hour in expected}
        found[scope.window("hour").start_ms] = scope.spend("hour")
        assert found == expected, f"seed {seed}: {scope.values}"
        if scope.values:
            assert scope.spend("month") == sum(expected.values()), f"seed {seed}: {scope.values}"
    levels: dict[int, list[float]] = defaultdict(list)
    for alert in told:
        if alert.rule == "feature" and alert.scope == {"feature": "chat"} and alert.state != "resolved":
            assert alert.window_start_ms is not None
            levels[alert.window_start_ms].append(alert.level)
    assert all(sorted(set(found)) == found for found in levels.values()), f"seed {seed}: told twice, {dict(levels)}"
    reached = {
        hour: max((level for level in THRESHOLDS if spent >= level * LIMIT_NANOUSD), default=0.0)
        for hour, spent in hours[("chat",)].items()
    }
    assert {hour: found[-1] for hour, found in levels.items()} == {hour: top for hour, top in reached.items() if top}
    assert sum(one.nanousd for delta in deltas for one in delta.amounts) == 2 * sum(hours[()].values()), f"seed {seed}"
