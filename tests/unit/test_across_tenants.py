"""What all tenants spend together, over partitions that restart, repeat and lag: the plain sum, in the right hours."""

from collections import defaultdict
from random import Random

import pytest

from models.effects import Effect
from models.engine import Engine
from models.rules.policy import read_policy_toml
from models.state.tenant import Tenant
from models.stimuli import SpendDue, SpendSeen, UsageSeen
from schemas.alert import Alert
from schemas.internal.spend import ALL_TENANTS, SpendDelta
from streams.kafka.partitioner import partition_of
from tests.support.histories import Changelog
from tests.support.messages import HOUR_MS, MONDAY_MS, llm_call
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
