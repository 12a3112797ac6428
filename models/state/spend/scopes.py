"""What a scope spends: one running total, one trip, and where each calendar period began.

The hot path is one add and one compare. Everything else happens when the hour changes or the trip is reached.
"""

from dataclasses import dataclass
from typing import Any, Final, Optional

import msgspec

from models.baselines.daily_history import DailyHistory, Day
from models.baselines.episodes import DAY_GAP_MS, Episode, joined, later
from models.baselines.hourly_history import BREACH, NORMAL, PLANNED, HourlyHistory
from models.calendar import Calendar, Window
from models.state.rows import PLAIN, Row
from models.state.spend.owners import OwnerShares
from models.state.units.unit import MAX_NANOUSD, NO_TRIP
from schemas.duration import HOUR_MS
from schemas.policy import Period

AT_ONCE: Final = -1
"""A trip below any total: the next spend is judged."""
TOP_RUNS: Final = "the top runs"
"""How alerts call the runs that spend most, whom to look at first."""

_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True, eq=False)
class Meter:
    """A way to cut a tenant's spend, or that of all tenants, into scopes: by these dimensions, of what matches."""

    meter_id: str
    group_by: tuple[str, ...]
    match: tuple[tuple[str, tuple[str, ...]], ...]
    periods: tuple[Period, ...]
    keeps_history: bool
    splits_owners: bool
    """Whether several owners may share one of its scopes, and a rule says who spent what."""
    rules: tuple[str, ...]
    """Names of the rules that watch its scopes."""
    calendar: Calendar
    """Cuts time into the periods."""
    parent: Optional["Meter"] = None
    is_across: bool = False
    """Whether its scopes hold the spend of all tenants: they belong to the tenant that stands for all."""
    keeps_days: bool = False
    """Whether a rule compares whole days."""


ClosedPeriods = dict[Period, tuple[Window, int]]
"""Closed periods, each with what was spent in it."""


class PeriodSpend:
    """The current period of one kind and the last one before it in which anything was spent."""

    __slots__ = ("base_nanousd", "end_ms", "previous_nanousd", "previous_start_ms", "start_ms")

    def __init__(self, start_ms: int, end_ms: int, base_nanousd: int, previous_start_ms: int, previous_nanousd: int):
        self.start_ms = start_ms
        self.end_ms = end_ms
        self.base_nanousd = base_nanousd
        """The scope's total when this period began, plus what arrived since for earlier ones."""
        self.previous_start_ms = previous_start_ms
        self.previous_nanousd = previous_nanousd

    def add_late(self, start_ms: int, nanousd: int) -> int | None:
        """Book spend into the closed period that began then; returns its spend, None if it is no longer known."""
        if start_ms < self.previous_start_ms:
            return None
        if start_ms > self.previous_start_ms:
            self.previous_start_ms, self.previous_nanousd = start_ms, 0
        self.previous_nanousd += nanousd
        return self.previous_nanousd

    def fields(self) -> tuple[int, ...]:
        """In the constructor's order."""
        return (self.start_ms, self.end_ms, self.base_nanousd, self.previous_start_ms, self.previous_nanousd)


class ScopeHistory(Row):
    """A scope's last 168 active hours, and its last days; a row of its own, written when an hour closes."""

    __slots__ = ("_days", "_hours", "_packed", "scope_key", "tenant_id")
    kind = "history"

    def __init__(self, tenant_id: str, scope_key: tuple[str, ...]) -> None:
        super().__init__()
        self.tenant_id = tenant_id
        self.scope_key = scope_key
        self._hours: HourlyHistory | None = HourlyHistory()
        self._days: DailyHistory | None = DailyHistory()
        self._packed = (b"", b"")

    @property
    def days(self) -> DailyHistory:
        """The days, kept small in between as the hours are."""
        if self._days is None:
            self._days = DailyHistory.from_bytes(self._packed[1])
        return self._days

    @property
    def hours(self) -> HourlyHistory:
        """The hours. They are looked at a few times an hour, and in between kept as small as the row holds them."""
        if self._hours is None:
            self._hours = HourlyHistory.from_bytes(self._packed[0])
        return self._hours

    def key_parts(self) -> tuple[str, ...]:
        return (self.tenant_id, *self.scope_key)

    def fields(self) -> tuple[Any, ...]:
        self._packed = self.hours.to_bytes(), self.days.to_bytes()
        self._hours = self._days = None
        return self._packed

    def read(self, fields: tuple[Any, ...]) -> None:
        """Take over what the history's row holds."""
        hours, days = fields
        self._packed = hours, days
        self._hours = self._days = None


class Scope(Row):
    """One distinct value of a meter's dimensions. `total_nanousd` only ever grows; periods are differences of it."""

    __slots__ = (
        "_packed", "accepted_nanousd", "at_ms", "due_ms", "episodes", "history", "mark", "meter", "owner", "parent",
        "periods", "raised", "segment_ms", "shares", "tenant_id", "total_nanousd", "trip", "values",
    )  # fmt: skip
    kind = "scope"

    def __init__(self, tenant_id: str, meter: Meter, values: tuple[str, ...]) -> None:
        super().__init__()
        self.tenant_id = tenant_id
        self.meter = meter
        self.values = values
        self.total_nanousd = 0
        self.accepted_nanousd = 0
        """The total when an output of a run that spends here was last accepted or edited, where a rule asks for it."""
        self.trip = NO_TRIP
        self.segment_ms = -1
        """Start of the stretch of time for which `trip` holds; another one means: look again."""
        self.at_ms = 0
        self.due_ms = 0
        """When one of its limits ends by itself, 0 for never."""
        self.mark = NORMAL
        """What the running hour is marked as: one found too expensive, or planned, stays out of the baseline."""
        self.periods: dict[Period, PeriodSpend] = {}
        self._packed: msgspec.Raw | None = None
        """The periods as a row holds them, until one of them changes: not with what is spent in it, which is in the
        total."""
        self.episodes: dict[str, Episode] = {}
        """Rule -> its latest breaching hours."""
        self.owner: str | None = None
        """The first to spend here, and the only one while `shares` is None."""
        self.shares: OwnerShares | None = None
        self.raised: dict[str, tuple[int, int]] = {}
        """Rule -> (limit in nano-dollars, until): exceptions that an operator ordered."""
        self.history = ScopeHistory(tenant_id, self.key) if meter.keeps_history else None
        self.parent: Scope | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """The meter and the values: what tells it from the tenant's other scopes."""
        return (self.meter.meter_id, *self.values)

    @property
    def dimensions(self) -> dict[str, str]:
        """Dimension -> value, as alerts show it."""
        return dict(zip(self.meter.group_by, self.values, strict=True))

    @property
    def scope_id(self) -> str:
        """What commands to it are addressed to."""
        return "/".join(self.key)

    @property
    def override_key(self) -> str:
        """What the policy's `overrides` and `exceptions` call it: the values in order, joined by `/`; the tenant that
        stands for all where there are none.
        """
        return "/".join(self.values) or self.tenant_id

    @property
    def label(self) -> str:
        """What people call it."""
        named = " / ".join(self.values)
        if not self.meter.is_across:
            return named
        return f"{named} across all tenants" if named else "The company (all tenants)"

    @property
    def spenders(self) -> str:
        """Whom to look at first, as its alerts list them."""
        return "the owners who spend most of it" if self.meter.is_across else TOP_RUNS

    def follow(self, meter: Meter) -> None:
        """Another policy watches: forget what followed from the old one, and keep what was spent."""
        self.meter = meter
        self.parent = None
        self.segment_ms = -1
        if meter.keeps_history and self.history is None:
            self.history = ScopeHistory(self.tenant_id, self.key)

    @property
    def is_new(self) -> bool:
        """Whether nobody has spent or been admitted here yet: such a scope has no row, and a restart forgets it."""
        return not self.periods

    def watched_by(self, rule: str) -> bool:
        """Whether the rule of that name limits it."""
        return rule in self.meter.rules

    def allowed_values(self) -> dict[str, list[str]]:
        """Dimension -> the values that a run's attribution must have to spend here."""
        return {name: list(values) for name, values in self.meter.match} | {
            name: [value] for name, value in zip(self.meter.group_by, self.values, strict=True)
        }

    def window(self, period: Period) -> Window:
        """The current period."""
        spend = self.periods[period]
        return Window(spend.start_ms, spend.end_ms)

    def base(self, period: Period) -> int:
        """The total at which the current period began."""
        return self.periods[period].base_nanousd

    def spend(self, period: Period) -> int:
        """Nano-dollars spent in the current period."""
        return self.total_nanousd - self.periods[period].base_nanousd

    def enter(self, calendar: Calendar, at_ms: int) -> int | None:
        """Move on to the periods around `at_ms`. Returns the spend of the hour that closed, None if none did."""
        self.at_ms = at_ms
        self._packed = None
        closed: int | None = None
        for period in self.meter.periods:
            window = calendar.window(period, at_ms)
            current = self.periods.get(period)
            if current is None:
                self.periods[period] = PeriodSpend(window.start_ms, window.end_ms, self.total_nanousd, 0, 0)
                if self.shares is not None:
                    self.shares.begin(period)
            elif window.start_ms > current.start_ms:
                spent = self.total_nanousd - current.base_nanousd
                if period == "hour":
                    closed = spent
                    self._close_hour(current.start_ms, spent, window.start_ms)
                elif period == "day" and self.meter.keeps_days and self.history is not None:
                    self.history.days.add(current.start_ms, spent)
                self.periods[period] = PeriodSpend(
                    window.start_ms, window.end_ms, self.total_nanousd, current.start_ms, spent
                )
                if self.shares is not None:
                    self.shares.begin(period)
        return closed

    def _close_hour(self, start_ms: int, spent_nanousd: int, now_ms: int) -> None:
        if self.history is not None:
            if spent_nanousd:
                self.history.hours.close(start_ms, spent_nanousd, self.mark)
            self.history.hours.prune(now_ms)
        self.mark = NORMAL

    def charge_share(self, owner: str, nanousd: int) -> None:
        """Book spend under its owner; called where several owners may share the scope."""
        if self.owner is None:
            self.owner = owner
        if self.shares is None:
            if owner == self.owner:
                return
            spent = {period: self.spend(period) for period in self.periods}
            self.shares = OwnerShares.of_one(self.owner, spent)
        self.shares.add(owner, nanousd)

    def spent_by_owner(self, period: Period) -> dict[str, int]:
        """Owner -> nano-dollars spent in the current period, the largest first."""
        if self.shares is None:
            return {} if self.owner is None else {self.owner: self.spend(period)}
        return self.shares.of(period)

    def record_breach(self, rule: str, hour_start_ms: int, *, is_sure: bool = True) -> None:
        """The rule found the running or a closed hour too expensive: it is part of an episode, and if that `is_sure`
        no part of what is normal.
        """
        if not is_sure:
            pass
        elif self.history is not None and hour_start_ms < self.window("hour").start_ms:
            self.history.hours.mark(hour_start_ms, BREACH)
        else:
            self.mark = max(self.mark, BREACH)
        known = self.episodes.get(rule)
        self.episodes[rule] = later(known, joined(known, hour_start_ms))

    def record_day(self, rule: str, day_start_ms: int) -> None:
        """The rule found a day too expensive: it is part of an episode of days."""
        known = self.episodes.get(rule)
        self.episodes[rule] = later(known, joined(known, day_start_ms, DAY_GAP_MS))

    def plan_days(self, rule: str, episode: Episode) -> None:
        """Somebody meant what the days of an episode have cost, the running one among them; another is another fact."""
        self.episodes.pop(rule, None)
        if self.history is not None and (day := self.periods.get("day")) is not None:
            days = self.history.days
            for known in (*days.between(episode[0], episode[1] + 1), Day(day.start_ms, 0)):
                if episode[0] <= known.start_ms <= episode[1]:
                    days.plan(known.start_ms)

    def plan(self, episode: Episode) -> None:
        """Somebody meant what the breaching hours of an episode have cost, the running one among them."""
        first_ms, last_ms = episode
        if first_ms <= self.window("hour").start_ms <= last_ms:
            self.mark = PLANNED
        if self.history is not None:
            self.history.hours.mark_breaches_planned(first_ms, last_ms + HOUR_MS)

    def closed_at(self, at_ms: int) -> bool:
        """Whether the hour around `at_ms` is over, as far as this scope is concerned."""
        hour = self.periods.get("hour")
        return hour is not None and at_ms < hour.start_ms

    def present_ms(self, now_ms: int) -> int:
        """`now_ms`, within the hour and the stretch of it that the scope is in."""
        hour = self.window("hour")
        return max(hour.start_ms, self.segment_ms, min(now_ms, hour.end_ms - 1))

    def add_late(self, calendar: Calendar, at_ms: int, nanousd: int, owner: str) -> ClosedPeriods:
        """Book spend into the closed periods around `at_ms`, and into those running ones that still hold it."""
        nanousd = min(nanousd, MAX_NANOUSD - self.total_nanousd)
        if self.meter.splits_owners:
            self.charge_share(owner, nanousd)
        self.total_nanousd += nanousd
        self._packed = None
        closed: ClosedPeriods = {}
        for period, spend in self.periods.items():
            if at_ms >= spend.start_ms:
                continue
            spend.base_nanousd += nanousd
            if self.shares is not None:
                self.shares.exclude(period, owner, nanousd)
            window = calendar.window(period, at_ms)
            if period == "hour" and self.history is not None:
                spent: int | None = self.history.hours.add_late(window.start_ms, nanousd)
            else:
                spent = spend.add_late(window.start_ms, nanousd)
            if period == "day" and self.history is not None and self.meter.keeps_days:
                self.history.days.add(window.start_ms, nanousd)
            if spent is not None:
                closed[period] = window, spent
        return closed

    def key_parts(self) -> tuple[str, ...]:
        return (self.tenant_id, *self.key)

    def header(self) -> tuple[int, int, int]:
        return self.due_ms, 0, PLAIN

    def fields(self) -> tuple[Any, ...]:
        periods = self._packed
        if periods is None:
            spends = {period: spend.fields() for period, spend in self.periods.items()}
            periods = self._packed = msgspec.Raw(_encode(spends))
        return (
            self.total_nanousd, self.mark, self.at_ms, periods, self.episodes, self.owner, self.raised, self.segment_ms,
            self.trip, None if self.shares is None else self.shares.fields(), self.accepted_nanousd,
        )  # fmt: skip

    def read(self, fields: tuple[Any, ...]) -> None:
        """Take over what the scope's row holds, the trip included: what it followed from may have changed since."""
        (
            self.total_nanousd, self.mark, self.at_ms, periods, episodes, self.owner, raised, self.segment_ms,
            self.trip, shares, self.accepted_nanousd,
        ) = fields  # fmt: skip
        self.shares = None if shares is None else OwnerShares(*shares)
        self.episodes = {rule: (first_ms, last_ms) for rule, (first_ms, last_ms) in episodes.items()}
        self.raised = {rule: (limit, until_ms) for rule, (limit, until_ms) in raised.items()}
        self.periods = {period: PeriodSpend(*spend) for period, spend in periods.items()}
