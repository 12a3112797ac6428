"""What the weekly review asks of the wide event table: by every dimension, run by run, against contracts and bills."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from alerting.review.facts import (
    LOW_ACCEPTANCE,
    MIN_OUTCOMES,
    TOP,
    AgentCosts,
    Detail,
    Margin,
    ModelShare,
    PerAccepted,
    PromptAcceptance,
    Ranking,
    Reconciled,
    Review,
    RunCosts,
)
from alerting.review.spend import ranking
from alerting.review.week import week_before
from streams.reconcile.days import day_of
from streams.sinks.stores.base import Store

RANKED: Final = ("owner", "project", "feature", "agent", "model", "prompt_version")
ACCEPTED: Final = ("owner", "project", "feature", "agent", "prompt_version")
TOOLS: Final = "(tools)"
"""What the spend of tools is called, where models are ranked."""
LEAST_SHIFT: Final = 0.05
"""A model's share of a workflow's spend that has changed by less is not worth a line."""


class Span(NamedTuple):
    """The part of a week that is counted, and the same part of the week before."""

    start_ms: int
    until_ms: int
    before_start_ms: int
    before_until_ms: int
    comparable: bool
    """Whether the week before is on record."""

    @property
    def before_ms(self) -> tuple[int, int]:
        """Both ends of the week before; nothing lies between them where it is not on record."""
        return self.before_start_ms, self.before_until_ms if self.comparable else self.before_start_ms


class Asked:
    """A store, and whom it is asked about."""

    def __init__(self, store: Store, tenant_id: str | None) -> None:
        self._store, self._tenant_id = store, tenant_id

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a question. Raises `StoreError`."""
        return self._store.query(sql)

    def table(self, name: str) -> str:
        """A table or view with `tenant_id` as it stands in a question: with nobody else's rows."""
        if self._tenant_id is None:
            return name
        return f"(select * from {name} where tenant_id = {self._store.literal(self._tenant_id)}) {name}"


def span_of(review: Review) -> Span:
    """What a review is compared with."""
    start_ms = week_before(review.week).start_ms
    length_ms = review.until_ms - review.week.start_ms
    until_ms = min(start_ms + length_ms, review.week.start_ms)
    return Span(review.week.start_ms, review.until_ms, start_ms, until_ms, review.comparable)


def read_detail(store: Store, span: Span, tenant_id: str | None = None) -> Detail:
    """Ask a store, about one tenant or all. Raises `StoreError`."""
    asked = Asked(store, tenant_id)
    total = asked.query(f"select sum(cost_nanousd) from {asked.table('calls')} where {_within(span, 'ts_ms')}")
    return Detail(
        cost_nanousd=_whole(total[0][0]),
        rankings={name: _ranking(asked, span, name) for name in RANKED},
        accepted={name: _accepted(asked, span, name) for name in ACCEPTED},
        runs=_runs(asked, span),
        mix=_mix(asked, span),
        agents=_agents(asked, span),
        low_prompts=_low_prompts(asked, span),
        margins=_margins(asked, span),
        # What providers say is of all tenants together.
        reconciled=_reconciled(asked, span) if tenant_id is None else (),
    )


def _within(span: Span, column: str) -> str:
    return f"{column} >= {span.start_ms} and {column} < {span.until_ms}"


def _before(span: Span, column: str) -> str:
    start_ms, until_ms = span.before_ms
    return f"{column} >= {start_ms} and {column} < {until_ms}"


def _either(span: Span, column: str) -> str:
    return f"(({_within(span, column)}) or ({_before(span, column)}))"


def _whole(given: Any) -> int:
    """A sum, which may come as a decimal, or as nothing where there was none."""
    return 0 if given is None else int(given)


def _ranking(asked: Asked, span: Span, name: str) -> Ranking:
    column = f"coalesce({name}, '{TOOLS}')" if name == "model" else name
    rows = asked.query(
        f"select {column}, sum(case when {_within(span, 'ts_ms')} then cost_nanousd else 0 end), "
        f"sum(case when {_before(span, 'ts_ms')} then cost_nanousd else 0 end) "
        f"from {asked.table('calls')} where {_either(span, 'ts_ms')} group by 1"
    )
    now = {one: _whole(cost) for one, cost, _ in rows}
    before = {one: _whole(cost) for one, _, cost in rows}
    return ranking(now, before if span.comparable else None)


def _accepted(asked: Asked, span: Span, name: str) -> tuple[PerAccepted, ...]:
    good = "outcome in ('accepted', 'edited')"
    now, then = _within(span, "started_ms"), _before(span, "started_ms")
    rows = asked.query(
        f"select coalesce(nullif({name}, ''), 'unattributed'), "
        f"sum(case when {now} then cost_nanousd else 0 end), sum(case when {now} and {good} then 1 else 0 end), "
        f"sum(case when {then} then cost_nanousd else 0 end), sum(case when {then} and {good} then 1 else 0 end) "
        f"from {asked.table('runs')} where {_either(span, 'started_ms')} group by 1"
    )
    found = [
        PerAccepted(one, int(accepted), _whole(cost), _each(cost, accepted), _each(cost_before, accepted_before))
        for one, cost, accepted, cost_before, accepted_before in rows
        if accepted or accepted_before
    ]
    return tuple(sorted(found, key=lambda one: (-one.cost_nanousd, one.name))[:TOP])


def _each(cost_nanousd: Any, count: Any) -> int | None:
    return _whole(cost_nanousd) // int(count) if count else None


def _runs(asked: Asked, span: Span) -> tuple[RunCosts, ...]:
    workflow = "coalesce(nullif(workflow, ''), 'unattributed')"
    ranked = asked.query(
        f"select workflow, runs, cost_nanousd from (select {workflow} as workflow, cost_nanousd, "
        f"row_number() over (partition by {workflow} order by cost_nanousd) as place, "
        f"count(*) over (partition by {workflow}) as runs from {asked.table('runs')} "
        f"where {_within(span, 'started_ms')}) ranked where place = ceil(0.99 * runs)"
    )
    now = _variation(asked, workflow, _within(span, "started_ms"))
    before = _variation(asked, workflow, _before(span, "started_ms"))
    found = [RunCosts(one, int(runs), _whole(cost), now.get(one), before.get(one)) for one, runs, cost in ranked]
    return tuple(sorted(found, key=lambda one: (-one.p99_nanousd, one.workflow))[:TOP])


def _variation(asked: Asked, workflow: str, within: str) -> dict[str, float]:
    rows = asked.query(
        f"select {workflow}, stddev_pop(cost_nanousd) / nullif(avg(cost_nanousd), 0) "
        f"from {asked.table('runs')} where {within} group by 1 having count(*) > 1"
    )
    return {one: float(found) for one, found in rows if found is not None}


def _mix(asked: Asked, span: Span) -> tuple[ModelShare, ...]:
    rows = asked.query(
        f"select workflow, model, sum(case when {_within(span, 'ts_ms')} then cost_nanousd else 0 end), "
        f"sum(case when {_before(span, 'ts_ms')} then cost_nanousd else 0 end) "
        f"from {asked.table('calls')} where type = 'llm_call' and {_either(span, 'ts_ms')} group by 1, 2"
    )
    now, before = _sums((one, cost) for one, _, cost, _ in rows), _sums((one, cost) for one, _, _, cost in rows)
    found = [
        ModelShare(one, model, _whole(cost) / now[one], _whole(cost_before) / before[one] if before[one] else None)
        for one, model, cost, cost_before in rows
        if now[one]
    ]
    shifted = [one for one in found if one.before is not None and abs(one.share - one.before) >= LEAST_SHIFT]
    return tuple(sorted(shifted, key=lambda one: (-abs(one.share - (one.before or 0)), one.workflow, one.model))[:TOP])


def _sums(parts: Iterable[tuple[str, Any]]) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for name, cost in parts:
        found[name] = found.get(name, 0) + _whole(cost)
    return found


def _agents(asked: Asked, span: Span) -> tuple[AgentCosts, ...]:
    rows = asked.query(
        "select coalesce(nullif(agent, ''), 'unattributed'), count(*), sum(cost_nanousd), sum(retries), sum(calls) "
        f"from {asked.table('runs')} where {_within(span, 'started_ms')} group by 1"
    )
    found = [
        AgentCosts(one, int(runs), _whole(cost) // int(runs), int(retries) / int(calls) if calls else None)
        for one, runs, cost, retries, calls in rows
    ]
    return tuple(sorted(found, key=lambda one: (-one.nanousd_per_run, one.name))[:TOP])


def _low_prompts(asked: Asked, span: Span) -> tuple[PromptAcceptance, ...]:
    rows = asked.query(
        "select coalesce(nullif(prompt_version, ''), 'unattributed'), count(*), "
        "sum(case when outcome in ('accepted', 'edited') then 1 else 0 end) "
        f"from {asked.table('runs')} where outcome is not null and {_within(span, 'started_ms')} group by 1"
    )
    found = [PromptAcceptance(one, int(count), int(good) / int(count)) for one, count, good in rows]
    low = [one for one in found if one.outcomes >= MIN_OUTCOMES and one.acceptance < LOW_ACCEPTANCE]
    return tuple(sorted(low, key=lambda one: (one.acceptance, one.name))[:TOP])


def _margins(asked: Asked, span: Span) -> tuple[Margin, ...]:
    last = day_of(span.until_ms - 1)
    rows = asked.query(
        f"select tenant_id, period, starts_on, value_nanousd, cost_nanousd from {asked.table('margin')} "
        f"where starts_on <= date '{last}' order by starts_on"
    )
    latest = {row[0]: Margin(row[0], row[1], str(row[2]), _whole(row[3]), _whole(row[4])) for row in rows}
    return tuple(sorted(latest.values(), key=lambda one: (one.value_nanousd - one.cost_nanousd, one.tenant_id))[:TOP])


def _reconciled(asked: Asked, span: Span) -> tuple[Reconciled, ...]:
    rows = asked.query(
        "select source, model, sum(our_cost_nanousd), sum(cost_nanousd) from reconciliation "
        f"where day >= date '{day_of(span.start_ms)}' and day <= date '{day_of(span.until_ms - 1)}' "
        "and cost_nanousd is not null and our_cost_nanousd is not null group by 1, 2"
    )
    found = [Reconciled(source, model, _whole(ours), _whole(theirs)) for source, model, ours, theirs in rows]
    return tuple(sorted(found, key=lambda one: (-abs(one.our_nanousd - one.nanousd), one.source, one.model))[:TOP])
