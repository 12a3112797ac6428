"""From hourly totals to what a week cost, where, when, and what it bought."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from statistics import median

from alerting.review.facts import (
    HIGH_RETRY_SHARE,
    LOW_ACCEPTANCE,
    MIN_CALLS,
    MIN_OUTCOMES,
    MIN_USUAL_DAYS,
    SPIKE_RATIO,
    TOP,
    WORTH_A_LINE_NANOUSD,
    Daily,
    Line,
    Ranking,
    Scope,
    Spike,
    Totals,
    Unpriced,
    Workflow,
)
from alerting.review.week import DAYS, Week, week_before
from schemas.duration import HOUR_MS
from schemas.rollup import Rollup

ScopeKey = tuple[str, str]
"""Tenant and workflow."""

_COUNTERS = tuple(one.name for one in fields(Totals))
_counters = attrgetter(*_COUNTERS)
_HOURS_OF_A_DAY = 24


def _no_days() -> list[int]:
    return [0] * DAYS


@dataclass(slots=True)
class Spend:
    """The hours of a week and of the one before, added up every way the review needs."""

    week: Week
    until_ms: int
    since_ms: int | None = None
    scopes: dict[ScopeKey, Totals] = field(default_factory=dict)
    scopes_before: dict[ScopeKey, Totals] = field(default_factory=dict)
    """The week before; its same stretch while the week is not over."""
    days: dict[ScopeKey, list[int]] = field(default_factory=lambda: defaultdict(_no_days))
    days_before: dict[ScopeKey, list[int]] = field(default_factory=lambda: defaultdict(_no_days))
    """Of whole days, whether the week is over or not."""
    hours: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    """Workflow -> start of the hour -> nano-dollars, over all tenants."""

    @property
    def comparable(self) -> bool:
        """Whether the week before is on record from its first day."""
        return self.since_ms is not None and self.since_ms < week_before(self.week).days_ms[1]


def add_up(rollups: Iterable[Rollup], week: Week, until_ms: int) -> Spend:
    """Add up hourly totals; each hour of a tenant's workflow must come once, with its last message."""
    spend = Spend(week, until_ms)
    before = week_before(week)
    same_stretch_ms = before.end_ms if until_ms >= week.end_ms else before.start_ms + until_ms - week.start_ms
    now: dict[ScopeKey, list[int]] = {}
    then: dict[ScopeKey, list[int]] = {}
    for rollup in rollups:
        start_ms, scope = rollup.hour_start_ms, (rollup.tenant_id, rollup.workflow)
        spend.since_ms = start_ms if spend.since_ms is None else min(spend.since_ms, start_ms)
        if week.start_ms <= start_ms < until_ms:
            _add(now, scope, rollup)
            spend.days[scope][week.day_of(start_ms)] += rollup.cost_nanousd
            spend.hours[rollup.workflow][start_ms] += rollup.cost_nanousd
        elif before.start_ms <= start_ms < before.end_ms:
            spend.days_before[scope][before.day_of(start_ms)] += rollup.cost_nanousd
            if start_ms < same_stretch_ms:
                _add(then, scope, rollup)
    spend.scopes = {scope: Totals(*sums) for scope, sums in now.items()}
    spend.scopes_before = {scope: Totals(*sums) for scope, sums in then.items()}
    return spend


def _add(sums: dict[ScopeKey, list[int]], scope: ScopeKey, rollup: Rollup) -> None:
    known = sums.get(scope)
    counters = _counters(rollup)
    sums[scope] = list(counters) if known is None else [old + new for old, new in zip(known, counters, strict=True)]


def total(parts: Iterable[Totals]) -> Totals:
    """All of them together."""
    sums = [0] * len(_COUNTERS)
    for part in parts:
        sums = [old + new for old, new in zip(sums, _counters(part), strict=True)]
    return Totals(*sums)


def by_tenant(scopes: Mapping[ScopeKey, Totals]) -> dict[str, int]:
    """Tenant -> nano-dollars."""
    return _by(scopes, 0)


def by_workflow(scopes: Mapping[ScopeKey, Totals]) -> dict[str, int]:
    """Workflow -> nano-dollars, over all tenants."""
    return _by(scopes, 1)


def _by(scopes: Mapping[ScopeKey, Totals], place: int) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for scope, totals in scopes.items():
        found[scope[place]] += totals.cost_nanousd
    return dict(found)


def ranking(now: Mapping[str, int], before: Mapping[str, int] | None) -> Ranking:
    """The most expensive names of the week. What spent only in the week before is among the others."""
    names = sorted((name for name in now if now[name]), key=lambda name: (-now[name], name))
    top, rest = names[:TOP], names[TOP:]
    others_before = None if before is None else sum(before.values()) - sum(before.get(name, 0) for name in top)
    return Ranking(
        lines=tuple(Line(name, now[name], None if before is None else before.get(name, 0)) for name in top),
        others=len(rest),
        others_nanousd=sum(now[name] for name in rest),
        others_before_nanousd=others_before,
    )


def daily(spend: Spend, ranked: Ranking) -> tuple[Daily, ...]:
    """What each of the ranked workflows spent a day, and the others together if there are any."""
    sums: dict[str | None, list[int]] = {line.name: _no_days() for line in ranked.lines}
    others = _no_days()
    for (_, workflow), days in spend.days.items():
        into = sums.get(workflow, others)
        into[:] = [old + new for old, new in zip(into, days, strict=True)]
    if any(others):
        sums[None] = others
    return tuple(Daily(workflow, tuple(days)) for workflow, days in sums.items())


def hours_of_the_week(spend: Spend) -> tuple[tuple[int | None, ...], ...]:
    """Nano-dollars by day and by hour as the clocks show it. Where autumn shows an hour twice, both are in one."""
    week = spend.week
    cells: list[list[int | None]] = [[None] * _HOURS_OF_A_DAY for _ in range(DAYS)]
    for day, (start_ms, end_ms) in enumerate(zip(week.days_ms, week.days_ms[1:], strict=False)):
        for hour_ms in range(start_ms, min(end_ms, spend.until_ms), HOUR_MS):
            cells[day][week.hour_of_day(hour_ms)] = 0
    for hours in spend.hours.values():
        for start_ms, nanousd in hours.items():
            day, hour = week.day_of(start_ms), week.hour_of_day(start_ms)
            cells[day][hour] = (cells[day][hour] or 0) + nanousd
    return tuple(tuple(row) for row in cells)


def spikes(spend: Spend) -> tuple[Spike, ...]:
    """Scopes with a day of more than `SPIKE_RATIO` x the median of their days with spend in the week before.

    Days without spend are left out of the median: a workflow that rests at weekends is not out of the ordinary on
    Mondays. Most expensive excess first.
    """
    found = (
        _spike(spend.week, scope, days, [day for day in spend.days_before[scope] if day])
        for scope, days in spend.days.items()
        if scope in spend.days_before
    )
    return tuple(sorted((one for one in found if one), key=lambda one: (-one.excess_nanousd, one.tenant_id)))


def _spike(week: Week, scope: ScopeKey, days: list[int], usual_days: list[int]) -> Spike | None:
    if len(usual_days) < MIN_USUAL_DAYS:
        return None
    usual = int(median(usual_days))
    over = [day for day in days if day > SPIKE_RATIO * usual and day >= WORTH_A_LINE_NANOUSD]
    if not over:
        return None
    worst = max(over)
    return Spike(
        tenant_id=scope[0],
        workflow=scope[1],
        day_ms=week.days_ms[days.index(worst)],
        cost_nanousd=worst,
        usual_nanousd=usual,
        ratio=round(worst / usual, 2),
        days=len(over),
        excess_nanousd=sum(over) - len(over) * usual,
    )


def only_in(here: Mapping[ScopeKey, Totals], there: Mapping[ScopeKey, Totals]) -> tuple[Scope, ...]:
    """Scopes that spent something worth a line here and nothing there, most expensive first."""
    found = [
        Scope(*scope, totals.cost_nanousd)
        for scope, totals in here.items()
        if totals.cost_nanousd >= WORTH_A_LINE_NANOUSD and not (scope in there and there[scope].cost_nanousd)
    ]
    return tuple(sorted(found, key=lambda one: (-one.cost_nanousd, one.tenant_id, one.workflow)))


def unpriced(spend: Spend) -> tuple[Unpriced, ...]:
    """Scopes with calls that nobody could put a price on, most tokens first."""
    found = [
        Unpriced(*scope, totals.unpriced_calls, totals.unpriced_tokens)
        for scope, totals in spend.scopes.items()
        if totals.unpriced_calls
    ]
    return tuple(sorted(found, key=lambda one: (-one.tokens, -one.calls, one.tenant_id, one.workflow)))


def workflows(spend: Spend) -> tuple[Workflow, ...]:
    """Every workflow over all its tenants, most expensive first."""
    parts: dict[str, list[Totals]] = defaultdict(list)
    for (_, workflow), totals in spend.scopes.items():
        parts[workflow].append(totals)
    found = (_workflow(name, own, spend.hours[name]) for name, own in parts.items())
    return tuple(sorted(found, key=lambda one: (-one.totals.cost_nanousd, one.name)))


def _workflow(name: str, parts: list[Totals], hours: Mapping[int, int]) -> Workflow:
    sums = total(parts)
    passed = sums.accepted + sums.edited
    active = sorted(nanousd for nanousd in hours.values() if nanousd)
    return Workflow(
        name=name,
        tenants=len(parts),
        totals=sums,
        acceptance=_share(passed, sums.outcomes),
        reported=_share(sums.outcomes, sums.runs_finished),
        nanousd_per_accepted=_each(sums.cost_nanousd, sums.accepted),
        nanousd_per_accepted_or_edited=_each(sums.cost_nanousd, passed),
        nanousd_per_run=_each(sums.cost_nanousd, sums.runs_started),
        retry_share=_share(sums.retries, sums.calls),
        hours=len(active),
        median_hour_nanousd=int(median(active)) if active else None,
        p99_hour_nanousd=active[_rank(len(active))] if active else None,
    )


def _rank(count: int) -> int:
    """The place of the 99th percentile among so many in order: the first with at least 99 % at or below it."""
    return -(-99 * count // 100) - 1


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _each(nanousd: int, count: int) -> int | None:
    """What one of `count` has cost; not known where no spend is: an outcome without its run cost it elsewhere."""
    return nanousd // count if count and nanousd else None


def with_outcomes(found: Iterable[Workflow]) -> tuple[Workflow, ...]:
    """Those that report outcomes."""
    return tuple(one for one in found if one.totals.outcomes)


def with_low_acceptance(found: Iterable[Workflow]) -> tuple[Workflow, ...]:
    """Those whose output is accepted too rarely, and often enough reported to say so."""
    return tuple(
        one
        for one in found
        if one.totals.outcomes >= MIN_OUTCOMES and one.acceptance is not None and one.acceptance < LOW_ACCEPTANCE
    )


def with_high_retries(found: Iterable[Workflow]) -> tuple[Workflow, ...]:
    """Those that send the same call again too often, worst first."""
    retrying = [one for one in found if one.totals.calls >= MIN_CALLS and (one.retry_share or 0) >= HIGH_RETRY_SHARE]
    return tuple(sorted(retrying, key=lambda one: -(one.retry_share or 0)))


def most_expensive_runs(found: Iterable[Workflow]) -> tuple[Workflow, ...]:
    """Those whose single run costs most."""
    running = [one for one in found if one.nanousd_per_run]
    return tuple(sorted(running, key=lambda one: -(one.nanousd_per_run or 0))[:TOP])


def most_expensive_hours(found: Iterable[Workflow]) -> tuple[Workflow, ...]:
    """Those whose 99th percentile hour costs most."""
    active = [one for one in found if one.p99_hour_nanousd]
    return tuple(sorted(active, key=lambda one: -(one.p99_hour_nanousd or 0))[:TOP])
