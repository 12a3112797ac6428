"""The figures of the review, counted again over random weeks by other means: one pass of plain loops a figure."""

from datetime import UTC, date, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from alerting.review.facts import Review
from alerting.review.week import Week, week_named
from schemas.rollup import Rollup
from tests.support.messages import HOUR_MS, USD
from tests.support.reviews import reviewed, rollup

TENANTS = [f"tenant-{number}" for number in range(8)]
WORKFLOWS = [f"workflow-{number}" for number in range(7)]


class Oracle:
    """Every figure from the list of rollups, by the calendar of the zone instead of instants."""

    def __init__(self, rollups: list[Rollup], monday: date, zone: str) -> None:
        self._zone = ZoneInfo(zone)
        self._local_times = {one.hour_start_ms: self._at(one.hour_start_ms) for one in rollups}
        self.now = [one for one in rollups if self._week(one) == monday]
        self.before = [one for one in rollups if self._week(one) == monday - timedelta(days=7)]

    def _at(self, ms: int) -> datetime:
        return datetime.fromtimestamp(ms // 1000, UTC).astimezone(self._zone)

    def _local(self, one: Rollup) -> datetime:
        return self._local_times[one.hour_start_ms]

    def _week(self, one: Rollup) -> date:
        day = self._local(one).date()
        return day - timedelta(days=day.isoweekday() - 1)

    def spend(self, rollups: list[Rollup], **where: str) -> int:
        return sum(one.cost_nanousd for one in self._of(rollups, where))

    def of_day(self, rollups: list[Rollup], weekday: int, **where: str) -> int:
        return self.spend([one for one in self._of(rollups, where) if self._local(one).weekday() == weekday])

    def _of(self, rollups: list[Rollup], where: dict[str, str]) -> list[Rollup]:
        return [one for one in rollups if all(getattr(one, name) == value for name, value in where.items())]

    def of_hour(self, weekday: int, hour: int) -> int:
        return sum(
            one.cost_nanousd
            for one in self.now
            if (self._local(one).weekday(), self._local(one).hour) == (weekday, hour)
        )

    def ranked(self, name: str) -> list[tuple[str, int, int]]:
        names = {getattr(one, name) for one in self.now}
        found = [
            (each, self.spend(self.now, **{name: each}), self.spend(self.before, **{name: each})) for each in names
        ]
        return sorted((one for one in found if one[1]), key=lambda one: (-one[1], one[0]))

    def spikes(self) -> dict[tuple[str, str], tuple[int, int, int]]:
        """Scope -> (its worst day, its usual day, excess)."""
        found = {}
        for tenant in TENANTS:
            for workflow in WORKFLOWS:
                where = {"tenant_id": tenant, "workflow": workflow}
                usual_days = [spent for day in range(7) if (spent := self.of_day(self.before, day, **where))]
                if len(usual_days) < 3:
                    continue
                usual = int(np.median(usual_days))
                over = [
                    spent
                    for day in range(7)
                    if (spent := self.of_day(self.now, day, **where)) > max(3 * usual, USD - 1)
                ]
                if over:
                    found[tenant, workflow] = (max(over), usual, sum(over) - usual * len(over))
        return found

    def p99_hour(self, workflow: str) -> int | None:
        hours: dict[int, int] = {}
        for one in self.now:
            if one.workflow == workflow:
                hours[one.hour_start_ms] = hours.get(one.hour_start_ms, 0) + one.cost_nanousd
        spent = [nanousd for nanousd in hours.values() if nanousd]
        return int(np.percentile(spent, 99, method="inverted_cdf")) if spent else None


def random_rollups(random: Random, week: Week) -> list[Rollup]:
    """Three weeks around the one under review; an hour of a scope at most once, some of them without spend."""
    found = {}
    start_ms = week.start_ms - 8 * 24 * HOUR_MS
    for _ in range(1500):
        scope = (random.choice(TENANTS), random.choice(WORKFLOWS), start_ms + random.randrange(18 * 24) * HOUR_MS)
        outcomes = {name: random.randrange(4) for name in ("accepted", "edited", "rejected", "escalated")}
        found[scope] = rollup(
            scope[2], scope[0], scope[1],
            cost_nanousd=random.choice((0, random.randrange(USD), random.randrange(9 * USD))),
            calls=random.randrange(100), retries=random.randrange(20), runs_started=random.randrange(5),
            runs_finished=random.randrange(9), unpriced_calls=random.choice((0, 0, 3)),
            unpriced_tokens=random.randrange(999), **outcomes,
        )  # fmt: skip
    return list(found.values())


@pytest.mark.parametrize(
    ("label", "zone"),
    [("2026-W48", "UTC"), ("2026-W13", "Europe/Berlin"), ("2026-W43", "Europe/Berlin"), ("2026-W53", "Asia/Kolkata")],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_an_independent_count_agrees(label: str, zone: str, seed: int) -> None:
    """Spend, rankings, days, hours, spikes, unit costs and percentiles, also where the clocks change."""
    print(f"seed {seed}")
    week = week_named(label, zone)
    if zone == "Asia/Kolkata":
        # Hours of a zone that is half an hour off start at half past in UTC, and so does its week.
        assert week.start_ms % HOUR_MS
    rollups = random_rollups(Random(seed), week)
    review = reviewed(*rollups, week=week)
    oracle = Oracle(rollups, date.fromisocalendar(int(label[:4]), int(label[-2:]), 1), zone)
    _check_sums(review, oracle)
    _check_rankings(review, oracle)
    _check_times(review, oracle)
    found = {
        (one.tenant_id, one.workflow): (one.cost_nanousd, one.usual_nanousd, one.excess_nanousd)
        for one in review.spikes
    }
    assert found == oracle.spikes()
    assert found, "no spike: the weeks are too even to test them"
    _check_workflows(review, oracle)


def _check_sums(review: Review, oracle: Oracle) -> None:
    assert review.comparable
    assert review.before is not None
    for name in ("cost_nanousd", "calls", "retries", "accepted", "edited", "rejected", "escalated", "unpriced_tokens"):
        assert getattr(review.totals, name) == sum(getattr(one, name) for one in oracle.now)
        assert getattr(review.before, name) == sum(getattr(one, name) for one in oracle.before)
    assert sum(one.calls for one in review.unpriced) == sum(one.unpriced_calls for one in oracle.now)


def _check_rankings(review: Review, oracle: Oracle) -> None:
    for ranking, name in ((review.tenants, "tenant_id"), (review.workflows, "workflow")):
        ranked = oracle.ranked(name)
        assert [(line.name, line.cost_nanousd, line.before_nanousd) for line in ranking.lines] == ranked[:5]
        assert (ranking.others, ranking.others_nanousd) == (len(ranked[5:]), sum(one[1] for one in ranked[5:]))
        listed = sum(line.before_nanousd or 0 for line in ranking.lines)
        assert listed + (ranking.others_before_nanousd or 0) == oracle.spend(oracle.before)


def _check_times(review: Review, oracle: Oracle) -> None:
    named = {one.workflow for one in review.days}
    for one in review.days:
        for weekday, nanousd in enumerate(one.days_nanousd):
            workflows = [one.workflow] if one.workflow else [name for name in WORKFLOWS if name not in named]
            assert nanousd == sum(oracle.of_day(oracle.now, weekday, workflow=name) for name in workflows)
    assert review.before_days_nanousd == tuple(oracle.of_day(oracle.before, weekday) for weekday in range(7))
    for weekday, hours in enumerate(review.hours_nanousd):
        for hour, spent in enumerate(hours):
            assert (spent or 0) == oracle.of_hour(weekday, hour)


def _check_workflows(review: Review, oracle: Oracle) -> None:
    assert [one.name for one in review.outcomes] == [name for name, *_ in oracle.ranked("workflow")]
    for one in review.outcomes:
        mine = [each for each in oracle.now if each.workflow == one.name]
        accepted, passed = sum(each.accepted for each in mine), sum(each.accepted + each.edited for each in mine)
        spent = oracle.spend(mine)
        assert one.nanousd_per_accepted == spent // accepted
        assert one.nanousd_per_accepted_or_edited == spent // passed
        assert one.nanousd_per_run == spent // sum(each.runs_started for each in mine)
        assert one.acceptance == pytest.approx(passed / one.totals.outcomes, abs=1e-4)
        assert one.retry_share == pytest.approx(
            sum(each.retries for each in mine) / sum(each.calls for each in mine), abs=1e-4
        )
        assert one.p99_hour_nanousd == oracle.p99_hour(one.name)
