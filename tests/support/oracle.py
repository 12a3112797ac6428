"""What the engine should find, counted again simply and slowly: plain sums over the whole log, no trips, no state rows.

It shares nothing with the engine but the messages. Each function takes records in the order of the log, as pairs of a
decoded usage message and its append time, so that it can judge a file, a test's stream, or a topic read back.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import NamedTuple
from zoneinfo import ZoneInfo

from schemas.usage import ATTRIBUTION, LlmCall, Outcome, RunFinished, RunStarted, ToolCall, UsageMessage

HOUR_MS = 3_600_000
AHEAD_MS = 300_000
DAY_MS = 24 * HOUR_MS

Record = tuple[UsageMessage, int]
Price = Callable[[LlmCall], int]
Scope = tuple[str, ...]


def unpriced_is_free(call: LlmCall) -> int:
    """The price of a call without one, where the stream holds no model that anybody could price."""
    return 0


class Charge(NamedTuple):
    """A message as it counts: once, at its clamped time, with its run's attribution."""

    message: UsageMessage
    at_ms: int
    dimensions: dict[str, str]
    cost_nanousd: int

    @property
    def charges(self) -> bool:
        """Whether scopes hear of it at all."""
        if isinstance(self.message, ToolCall):
            return self.cost_nanousd > 0
        return isinstance(self.message, LlmCall | RunStarted)


def counted(records: Iterable[Record], price: Price = unpriced_is_free) -> list[Charge]:
    """Every record that counts: no duplicates, nothing more than a day late; the future begins 5 minutes from now."""
    seen: set[tuple[str, str]] = set()
    clocks_ms: dict[str, int] = defaultdict(int)
    attribution: dict[tuple[str, str], dict[str, str]] = {}
    charges = []
    for message, append_ms in records:
        tenant = message.tenant_id
        if (tenant, message.event_id) in seen:
            continue
        seen.add((tenant, message.event_id))
        clocks_ms[tenant] = max(clocks_ms[tenant], append_ms)
        at_ms = min(message.ts_ms, append_ms + AHEAD_MS)
        if clocks_ms[tenant] - at_ms > DAY_MS:
            continue
        if isinstance(message, RunStarted):
            attribution[tenant, message.run_id] = _own_attribution(message)
        inherited = attribution.get((tenant, message.run_id), {})
        names = {"tenant_id": tenant, **inherited, **_own_attribution(message)}
        dimensions = {name: names.get(name, "unattributed") for name in ("tenant_id", *ATTRIBUTION)}
        charges.append(Charge(message, at_ms, dimensions, _cost(message, price)))
    return charges


def totals(records: Iterable[Record], price: Price = unpriced_is_free) -> dict[str, int]:
    """Tenant -> nano-dollars, exactly."""
    spent: dict[str, int] = defaultdict(int)
    for charge in counted(records, price):
        spent[charge.dimensions["tenant_id"]] += charge.cost_nanousd
    return dict(spent)


def _own_attribution(message: UsageMessage) -> dict[str, str]:
    return {name: value for name in ATTRIBUTION if (value := getattr(message, name))}


def _cost(message: UsageMessage, price: Price) -> int:
    if isinstance(message, LlmCall):
        return price(message) if message.cost_nanousd is None else message.cost_nanousd
    return (message.cost_nanousd or 0) if isinstance(message, ToolCall) else 0


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """A budget as the oracle knows it."""

    name: str
    period: str
    limit_nanousd: int
    group_by: tuple[str, ...] = ("tenant_id",)
    thresholds: tuple[float, ...] = (0.5, 0.8, 1.0)
    overrides: Mapping[str, int] | None = None
    match: Mapping[str, str] | None = None
    timezone: str = "UTC"


class Crossing(NamedTuple):
    """A level reached: by which event, with how much spent."""

    rule: str
    scope: Scope
    window_start_ms: int
    level: float
    value_nanousd: int
    event_id: str


def budget_crossings(rule: BudgetRule, records: Iterable[Record], price: Price = unpriced_is_free) -> list[Crossing]:
    """Every level of every scope and period that is reached, the highest of those that one event reaches."""
    spent: dict[tuple[Scope, int], int] = defaultdict(int)
    told: dict[tuple[Scope, int], float] = defaultdict(float)
    crossings = []
    for charge in counted(records, price):
        if not charge.charges or not _matches(rule.match, charge.dimensions):
            continue
        scope = tuple(charge.dimensions[name] for name in rule.group_by)
        limit = (rule.overrides or {}).get("/".join(scope), rule.limit_nanousd)
        window = (scope, period_start_ms(rule.period, charge.at_ms, rule.timezone))
        spent[window] += charge.cost_nanousd
        reached = _level(spent[window], limit, rule.thresholds)
        if reached > told[window]:
            told[window] = reached
            crossings.append(Crossing(rule.name, *window, reached, spent[window], charge.message.event_id))
    return crossings


def period_start_ms(period: str, at_ms: int, timezone: str) -> int:
    """When the calendar period around an instant began, in zones whose days begin at an existing, single midnight."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    if period == "hour":
        return at_ms - at_ms % HOUR_MS
    day = at.astimezone(ZoneInfo(timezone)).date()
    if period == "week":
        day -= timedelta(days=day.weekday())
    if period == "month":
        day = day.replace(day=1)
    return round(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone)).timestamp()) * 1000


def _matches(match: Mapping[str, str] | None, dimensions: Mapping[str, str]) -> bool:
    return all(dimensions[name] == value for name, value in (match or {}).items())


def _level(value: int, limit: int, thresholds: Iterable[float]) -> float:
    """The highest share of the limit that is reached; nothing spent reaches nothing."""
    return max((share for share in thresholds if value > 0 and value >= Fraction(str(share)) * limit), default=0.0)


class Cap(NamedTuple):
    """A cap on every single run."""

    rule: str
    counter: str
    limit: int
    thresholds: tuple[float, ...] = (0.5, 0.8, 1.0)


class CapCrossing(NamedTuple):
    """A level of a run's cap reached."""

    rule: str
    counter: str
    tenant_id: str
    run_id: str
    level: float
    value: int
    event_id: str


def cap_crossings(cap: Cap, records: Iterable[Record], price: Price = unpriced_is_free) -> list[CapCrossing]:
    """Levels of `cost_nanousd`, `calls`, `tool_calls` or `retries` of runs that are never forgotten in between."""
    values: dict[tuple[str, str], int] = defaultdict(int)
    told: dict[tuple[str, str], float] = defaultdict(float)
    crossings = []
    for charge in counted(records, price):
        run = (charge.message.tenant_id, charge.message.run_id)
        if isinstance(charge.message, Outcome) and charge.message.outcome in ("accepted", "edited"):
            values[run] = told[run] = 0  # the output was worth what it cost; the allowance begins anew
        values[run] += _counts(cap.counter, charge)
        level = _cap_level(values[run], cap)
        if level > told[run]:
            told[run] = level
            crossings.append(CapCrossing(cap.rule, cap.counter, *run, level, values[run], charge.message.event_id))
    return crossings


def _cap_level(value: int, cap: Cap) -> float:
    """Money is reached. A count is exceeded: at the full allowance only a warning is due, of level 0.99."""
    if cap.counter == "cost_nanousd":
        return _level(value, cap.limit, cap.thresholds)
    if value > cap.limit:
        return max(share for share in cap.thresholds if value > int(Fraction(str(share)) * cap.limit) or share <= 1)
    return 0.99 if value == cap.limit else _level(value, cap.limit, [share for share in cap.thresholds if share < 1])


def _counts(counter: str, charge: Charge) -> int:
    message = charge.message
    match counter:
        case "cost_nanousd":
            return charge.cost_nanousd
        case "calls":
            return int(isinstance(message, LlmCall))
        case "tool_calls":
            return int(isinstance(message, ToolCall))
        case "retries":
            return int(isinstance(message, LlmCall) and message.attempt > 1)
        case _:
            raise ValueError(f"the oracle does not count {counter}")


@dataclass(frozen=True, slots=True)
class HourlyRule:
    """`spend_anomaly` per tenant, in a zone of whole hours whose clocks do not change."""

    name: str
    multiplier: Fraction = Fraction(5)
    season_multiplier: Fraction = Fraction(2)
    floor_nanousd: int = 10**9
    min_active_hours: int = 12
    min_history_hours: int = 48
    new_normal_hours: int = 24
    new_normal_of: int = 36
    baseline_hours: int = 168


class Breach(NamedTuple):
    """The first of a tenant's hours in a row that cost more than they may."""

    rule: str
    tenant_id: str
    hour_ms: int
    value_nanousd: int
    median_nanousd: Fraction
    event_id: str


class _Hours:
    """What a tenant has spent by the hour, and which hours are out of the ordinary."""

    def __init__(self) -> None:
        self.spent: dict[int, int] = defaultdict(int)
        self.breached: set[int] = set()
        self.former: set[int] = set()
        self.told: set[int] = set()
        self.episode: tuple[int, int] | None = None
        self.current_ms = -1

    def move_to(self, hour_ms: int, rule: HourlyRule) -> None:
        """An hour begins. Enough breaches among the latest active hours are the new normal."""
        if hour_ms <= self.current_ms:
            return
        self.current_ms = hour_ms
        active = sorted(hour for hour, spent in self.spent.items() if spent)
        if not active or active[-1] not in self.breached:
            return
        breaches = [hour for hour in active[-rule.new_normal_of :] if hour in self.breached]
        week = [hour for hour in active if hour >= hour_ms - rule.baseline_hours * HOUR_MS]
        old = [hour for hour in week if hour in self.breached or hour in self.former]
        if len(breaches) < rule.new_normal_hours:
            breaches = [hour for hour in week if hour in self.breached]
            if len(breaches) < rule.min_active_hours or old != week:
                return
        self.former = {hour for hour in active if hour < breaches[0]}
        self.breached.clear()
        self.episode = None

    def limit(self, hour_ms: int, rule: HourlyRule) -> tuple[Fraction, Fraction] | None:
        """What an hour may cost, and the median of the week before it; None while that is not known."""
        week = [h for h, spent in self.spent.items() if spent and -rule.baseline_hours * HOUR_MS <= h - hour_ms < 0]
        usual = sorted(self.spent[hour] for hour in week if hour not in self.breached and hour not in self.former)
        known_ms = min((hour for hour, spent in self.spent.items() if spent), default=hour_ms)
        if not usual or len(week) < rule.min_active_hours or known_ms > hour_ms - rule.min_history_hours * HOUR_MS:
            return None
        median = Fraction(usual[(len(usual) - 1) // 2] + usual[len(usual) // 2], 2)
        return max(rule.multiplier * median, self._season(hour_ms, rule)), median

    def _season(self, hour_ms: int, rule: HourlyRule) -> Fraction:
        """Past days: the second dearest same hour, alone or with the hour before; the median one with that after."""
        days = [hour_ms - day * DAY_MS for day in range(1, 8)]
        alone = sorted(self._at(hour) for hour in days)[-2]
        before = sorted(self._at(hour) + self._at(hour - HOUR_MS) for hour in days)[-2] - self._at(hour_ms - HOUR_MS)
        after = sorted(both for hour in days if (both := self._at(hour) + self._at(hour + HOUR_MS)))
        early = after[(len(after) - 1) // 2] if len(after) > 1 else 0
        return max(rule.season_multiplier * max(alone, before), Fraction(early))

    def _at(self, hour_ms: int) -> int:
        return self.spent.get(hour_ms, 0)

    def breach(self, hour_ms: int) -> bool:
        """Mark a breaching hour. Returns whether nobody was told of it or of the hours around it."""
        self.breached.add(hour_ms)
        first, last = self.episode or (hour_ms, hour_ms)
        near = first - 3 * HOUR_MS <= hour_ms <= last + 3 * HOUR_MS
        start = first if near else hour_ms
        if near or hour_ms > last:
            self.episode = start, max(last, hour_ms) if near else hour_ms
        is_news = start not in self.told
        self.told.add(start)
        return is_news


def hourly_breaches(rule: HourlyRule, records: Iterable[Record], price: Price = unpriced_is_free) -> list[Breach]:
    """Every incident told of: about the event's hour, or about the running one, whose median a late event may move."""
    tenants: dict[str, _Hours] = defaultdict(_Hours)
    breaches = []
    for charge in counted(records, price):
        if not charge.charges:
            continue
        tenant = charge.dimensions["tenant_id"]
        hours, hour_ms = tenants[tenant], charge.at_ms - charge.at_ms % HOUR_MS
        hours.move_to(hour_ms, rule)
        hours.spent[hour_ms] += charge.cost_nanousd
        for judged_ms in dict.fromkeys((hour_ms, hours.current_ms)):
            spent, found = hours.spent[judged_ms], hours.limit(judged_ms, rule)
            if found is None or spent < max(1, rule.floor_nanousd) or spent <= found[0]:
                continue
            if hours.breach(judged_ms):
                breaches.append(Breach(rule.name, tenant, judged_ms, spent, found[1], charge.message.event_id))
    return breaches


class _Ended:
    """A run as the recount of results knows it."""

    def __init__(self) -> None:
        self.cost_nanousd = 0
        self.retried_nanousd = 0
        self.last_ms = 0
        self.heard_ms = 0
        self.ended_ms: int | None = None
        self.outcome = "unknown"
        self.workflow = "unattributed"


RunSums = dict[tuple[str, str, int, str], tuple[int, int, int]]
"""Tenant, workflow, start of the day (UTC) and outcome -> runs, their cost, and that of calls sent again."""


def results(records: Iterable[Record], idle_ms: int) -> RunSums:
    """What became of every run in the end, in the day on which it ended: the last word on it stands, once.

    Runs say their workflow on every call, and are known from their first call on. All of them are silent by now.
    """
    runs: dict[tuple[str, str], _Ended] = defaultdict(_Ended)
    for message, append_ms in records:
        if isinstance(message, RunFinished | Outcome) and (message.tenant_id, message.run_id) not in runs:
            continue
        run = runs[message.tenant_id, message.run_id]
        if run.ended_ms is None and run.heard_ms and append_ms - run.heard_ms >= idle_ms:
            run.ended_ms = run.last_ms
        run.heard_ms = append_ms
        if isinstance(message, LlmCall):
            cost = _cost(message, unpriced_is_free)
            run.cost_nanousd += cost
            run.retried_nanousd += cost if message.attempt > 1 else 0
            run.workflow = message.workflow or run.workflow
            if run.ended_ms is not None and message.ts_ms > run.ended_ms:
                run.ended_ms = None
            run.last_ms = max(run.last_ms, message.ts_ms)
        elif isinstance(message, RunFinished) and run.ended_ms is None:
            run.ended_ms = message.ts_ms
        elif isinstance(message, Outcome):
            run.outcome = message.outcome
    sums: RunSums = defaultdict(lambda: (0, 0, 0))
    for (tenant, _), run in runs.items():
        ended_ms = run.last_ms if run.ended_ms is None else run.ended_ms
        key = (tenant, run.workflow, ended_ms - ended_ms % DAY_MS, run.outcome)
        count, cost, retried = sums[key]
        sums[key] = (count + 1, cost + run.cost_nanousd, retried + run.retried_nanousd)
    return dict(sums)
