"""`hourly_spend`: an hour of a scope against the median of its past week, and against the same hour of past days."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import Field, model_validator

from models.baselines.episodes import GAP_MS, joined
from models.baselines.hourly_history import (
    ONCE_IN_A_HUNDRED,
    ONCE_IN_A_THOUSAND,
    PLANNED,
    Baseline,
    HourlyHistory,
)
from models.calendar import Calendar, Window
from models.detectors.base import NEVER, ScopeDetector, register
from models.rules.finding import Finding
from models.state.spend.scopes import ClosedPeriods, Scope
from schemas.duration import HOUR_MS
from schemas.money import format_usd, usd_to_nanousd
from schemas.policy import GroupByAcross, RuleSettings, Severity, Steps, Usd

SEASON_DAYS = 7
"""Days on which the same hour is looked at."""
SHARE_HOURS = 3
"""Normal hours of its own that a scope needs before its share of its parent means anything."""


class HourlySpendSettings(RuleSettings):
    """`spend_anomaly` in the policy file."""

    steps: ClassVar[Steps] = {"multiplier": (0.5, 0.75, 1.5, 2), "min_usd": (0.5, 2, 5, 10)}
    group_by: GroupByAcross = ["tenant_id"]
    multiplier: Annotated[Decimal, Field(gt=1, le=1000)] = Decimal(5)
    baseline_days: Annotated[int, Field(ge=7, le=7)] = 7
    """The rolling median looks back seven days; other windows are not offered yet."""
    season_multiplier: Annotated[Decimal, Field(ge=1, le=1000)] = Decimal(2)
    """An hour must also cost more than this many times what the same hour of the day has on two of the last seven."""
    min_usd: Usd = Decimal(1)
    """Below this an hour is too cheap to tell anybody about."""
    by_spread: bool = True
    """Whether an hour must also be dearer than one in a hundred of the scope's hours would be, as unlike as they are,
    and pages from one in a thousand on; without, it pages above the multiples alone."""
    page_usd: Usd = Decimal(5)
    """Below this an hour is a warning at most, however sure: it wakes nobody."""
    min_active_hours: Annotated[int, Field(ge=1, le=168)] = 12
    """Fewer active hours than this in seven days say nothing of what is normal."""
    min_history_hours: Annotated[int, Field(ge=0, le=168)] = 48
    """The first hour known must lie this far back: what happens every night is not known after half a day."""
    without_history_usd: Annotated[Usd, Field(gt=0)] = Decimal(100)
    """An hour of a scope of which nothing is known yet is told of when it costs this much, once a day."""
    new_normal_hours: Annotated[int, Field(ge=2, le=168)] = 24
    """So many breaching hours make their level the normal one."""
    new_normal_of: Annotated[int, Field(ge=2, le=192)] | None = None
    """They are looked for among so many of the latest active hours; unset, half as many again."""

    @model_validator(mode="after")
    def _enough_to_count(self) -> "HourlySpendSettings":
        if self.new_normal_of is not None and self.new_normal_of < self.new_normal_hours:
            raise ValueError(
                f"there are never {self.new_normal_hours} breaching hours among {self.new_normal_of}; "
                f"write new_normal_of = {self.new_normal_hours} or more"
            )
        return self


@dataclass(frozen=True, slots=True)
class Limit:
    """What an hour may cost, and why."""

    amount_nanousd: int
    """The smallest spend that is too much."""
    page_nanousd: int
    """The smallest that is too much beyond doubt: however unlike one another such hours of other days are, and more
    than any normal hour of the last seven days cost. Nobody is woken for what was spent at noon."""
    baseline: Baseline | None
    """None while nothing is known of the scope."""
    share: Fraction | None = None
    """Of the parent whose baseline it is; None for the scope's own."""
    season_nanousd: int = 0
    """What the same hour of the day cost on two of the last seven days, at least; 0 if there are no two."""


class Season(NamedTuple):
    """What the same hour of the day has cost on the last seven days, in nano-dollars."""

    alone: int
    """On the second dearest day."""
    with_hour_before: int
    """On the second dearest day."""
    with_hour_after: int
    """On the median active day: an hour before a daily peak must not be allowed the dearest of its peaks."""


@register
class HourlySpend(ScopeDetector[HourlySpendSettings]):
    """Fires when a scope's running hour has cost more than 5 x the median of its active hours in the last 7 days, or
    more where they differ widely, and clearly more than the same hour of the day on two of them. A warning, until it
    exceeds every normal hour of the week, and what such hours of other days, as unlike as they are, reach once in a
    thousand. Breaching hours in a row are one incident.
    """

    name = "hourly_spend"
    tables = ("spend_anomaly", "hourly_spend")
    settings_class = HourlySpendSettings
    defaults = ({"name": "hourly-5x"},)
    keeps_history = True
    has_baseline = True
    asks_parent = True

    def __init__(self, settings: HourlySpendSettings) -> None:
        super().__init__(settings)
        self.group_by = tuple(settings.group_by)
        self.factor = Fraction(settings.multiplier)
        self.season_factor = Fraction(settings.season_multiplier)
        self.floor_nanousd = usd_to_nanousd(settings.min_usd)
        self.page_nanousd = usd_to_nanousd(settings.page_usd)
        self.unknown_nanousd = max(self.floor_nanousd, usd_to_nanousd(settings.without_history_usd))
        self.new_normal_of = settings.new_normal_of or settings.new_normal_hours * 3 // 2

    def next_trip(self, scope: Scope) -> int:
        if scope.mark == PLANNED:
            return NEVER
        spent = scope.spend("hour")
        limit = self.limit(scope, scope.window("hour").start_ms, spent)
        amount, page = limit.amount_nanousd, limit.page_nanousd
        # What was found holds until the hour ends: its figures are looked at again whenever they have doubled.
        page = max(page, self.page_nanousd)
        trip = amount if spent < amount else page if spent < page else 2 * spent
        return scope.base("hour") + trip

    def judge(self, scope: Scope) -> Iterable[Finding]:
        if scope.mark != PLANNED:
            yield from self._judge(scope, scope.window("hour"), scope.spend("hour"), "this hour")

    def judge_closed(self, scope: Scope, closed: ClosedPeriods, at_ms: int, now_ms: int) -> Iterable[Finding]:
        """A closed hour is judged by the week before itself."""
        if (found := closed.get("hour")) is not None and not _hours(scope).is_planned(found[0].start_ms):
            words = "this hour" if found[0].end_ms > now_ms else "in an earlier hour"
            yield from self._judge(scope, *found, words)

    def judge_hour(self, scope: Scope) -> Iterable[Finding]:
        """Whether breaches have gone on for so long that their level is the normal one."""
        hours, now = _hours(scope), scope.window("hour")
        since_ms = hours.new_normal_since(
            now.start_ms, self.settings.new_normal_hours, self.new_normal_of, self.settings.min_active_hours
        )
        if since_ms is None:
            return
        level = hours.level(since_ms, now.start_ms)
        breaching = hours.breaches(since_ms, now.start_ms, besides_ms=now.start_ms).hours
        yield Finding(
            level=1.0,
            severity="info",
            value=_exact(level.median_x2),
            unit="nanousd",
            aspect="new-normal",
            window=Window(since_ms, now.end_ms),
            hour="new_normal",
            evidence={
                "breaching_hours": breaching,
                "active_hours": level.active_hours,
                "mad_nanousd": level.mad_nanousd,
            },
            summary=(
                f"{_who(scope)} has spent more than {self.settings.multiplier} times what was usual in {breaching} "
                f"of its last {level.active_hours} active hours: {format_usd(level.median_x2 // 2)} an hour is the "
                f"new normal"
            ),
            next_action="Nothing, if the new level is wanted; set a budget if it is not.",
        )

    def limit(self, scope: Scope, hour_ms: int, spent: int) -> Limit:
        """What the hour that starts then may cost: by its own past, else by its share of its parent's.

        Past days are asked only once `spent` exceeds the multiple of the median; until then that is the limit.
        """
        hours = _hours(scope)
        if (own := self._usual(hours, hour_ms)) is not None:
            return self._limit(scope, hour_ms, spent, own, None)
        parent = scope.parent
        if parent is not None and parent.history is not None:
            theirs = self._usual(parent.history.hours, hour_ms)
            active, share = hours.share_of(parent.history.hours, hour_ms)
            if theirs is not None and active >= SHARE_HOURS and share:
                return self._limit(scope, hour_ms, spent, theirs, share)
        unknown = max(1, self.unknown_nanousd)
        return Limit(unknown, unknown, None)

    def _usual(self, hours: HourlyHistory, hour_ms: int) -> Baseline | None:
        """What a history says is normal in the hour that starts then; None if it is too short to say."""
        if (
            not hours.reaches_back(hour_ms, self.settings.min_history_hours * HOUR_MS)
            or hours.known_hours(hour_ms) < self.settings.min_active_hours
        ):
            return None
        baseline = hours.baseline(hour_ms)
        return baseline if baseline.active_hours else None

    def _limit(self, scope: Scope, hour_ms: int, spent: int, baseline: Baseline, share: Fraction | None) -> Limit:
        usual = max(self.floor_nanousd, baseline.trip(self.factor * (1 if share is None else share)))
        if spent < usual:
            return Limit(usual, usual, baseline, share)
        season = self._season(_hours(scope), scope.meter.calendar, hour_ms)
        # A job that runs an hour late or early is no news: with its neighbour, the hour costs what both always do.
        missing = season.with_hour_before - _hours(scope).spend(hour_ms - HOUR_MS)
        seasonal = max(int(self.season_factor * max(season.alone, missing)), season.with_hour_after) + 1
        if not self.settings.by_spread:
            limit = max(usual, seasonal)
            return Limit(limit, limit, baseline, share, season.alone)
        told, page = (
            self._at_odds(scope, hour_ms, baseline, share, z) for z in (ONCE_IN_A_HUNDRED, ONCE_IN_A_THOUSAND)
        )
        if _hours(scope).same_hour(hour_ms) is None:  # hardly ever active then: what is told of strangers is told of it
            told = min(told, self.unknown_nanousd)
        limit = max(usual, seasonal, told)
        dearest = int(baseline.dearest_nanousd * (1 if share is None else share)) + 1
        return Limit(limit, max(limit, page, dearest), baseline, share, season.alone)

    def _at_odds(self, scope: Scope, hour_ms: int, baseline: Baseline, share: Fraction | None, z: float) -> int:
        """What one in so many hours costs that are as unlike one another as the scope's are: at this hour of the day,
        or at any where it has seldom been active. A team's busy afternoon is no news.
        """
        if (then := _hours(scope).same_hour(hour_ms)) is not None:
            return int(then.median_nanousd * then.multiple(z)) + 1
        return baseline.trip(Fraction(baseline.multiple(z)) * (1 if share is None else share))

    def _season(self, hours: HourlyHistory, calendar: Calendar, hour_ms: int) -> Season:
        days = []
        for alike in calendar.hours_alike(hour_ms, SEASON_DAYS):
            before, then, after = (
                hours.unplanned_spend([start_ms + shift * HOUR_MS for start_ms in alike]) for shift in (-1, 0, 1)
            )
            days.append((then, before + then, then + after))
        alone, with_before, with_after = (sorted(spent) for spent in zip(*days, strict=True))
        active = [spent for spent in with_after if spent]
        return Season(alone[-2], with_before[-2], active[(len(active) - 1) // 2] if len(active) >= 2 else 0)

    def _judge(self, scope: Scope, hour: Window, spent: int, words: str) -> Iterator[Finding]:
        if spent < max(1, self.floor_nanousd):
            return
        limit = self.limit(scope, hour.start_ms, spent)
        if spent < limit.amount_nanousd:
            return
        if limit.baseline is None:
            yield self._unknown(scope, hour, spent, words)
        else:
            yield self._breach(scope, hour, spent, words, limit, limit.baseline)

    def _unknown(self, scope: Scope, hour: Window, spent: int, words: str) -> Finding:
        limit = self.unknown_nanousd
        hours = _hours(scope).known_hours(hour.start_ms)
        return Finding(
            level=1.0,
            severity=_at_most(self.settings.severity, "error"),
            value=spent,
            limit=limit,
            ratio=round(spent / limit, 2),
            unit="nanousd",
            aspect="without-history",
            window=scope.meter.calendar.window("day", hour.start_ms),
            evidence={"active_hours": hours, "hour_start_ms": hour.start_ms},
            summary=(
                f"{_who(scope)} has spent {format_usd(spent)} {words}, and too little is known of it yet to say what "
                f"is usual: {hours} active hours in the last seven days"
            ),
            next_action=f"Look at {scope.spenders}; set a budget if this is what it is going to cost.",
        )

    def _breach(self, scope: Scope, hour: Window, spent: int, words: str, limit: Limit, baseline: Baseline) -> Finding:
        median = _exact(baseline.median_x2) if limit.share is None else int(limit.share * baseline.median_x2 / 2)
        ratio = round(spent / median, 2) if median else None
        usual = f", {ratio:,.3g} times the usual {format_usd(int(median))}" if ratio else ""
        first_ms, last_ms = joined(scope.episodes.get(self.rule), hour.start_ms)
        end_ms = max(hour.end_ms, last_ms + HOUR_MS)
        is_sure = spent >= limit.page_nanousd
        wakes = is_sure and spent >= self.page_nanousd
        evidence, so_far = _episode(scope, Window(first_ms, end_ms), hour.start_ms, spent, median)
        return Finding(
            level=1.0 if wakes else 0.5,
            severity=self.settings.severity if wakes else _at_most(self.settings.severity, "warning"),
            value=spent,
            limit=max(self.floor_nanousd, limit.amount_nanousd - 1),
            baseline=median,
            ratio=ratio,
            unit="nanousd",
            window=Window(first_ms, end_ms),
            ends_ms=end_ms + GAP_MS,
            hour="breach" if is_sure else "notice",
            evidence={
                "active_hours": baseline.active_hours,
                "median_nanousd": median,
                "mad_nanousd": baseline.mad_nanousd,
                "baseline_of": "own" if limit.share is None else "parent",
                "same_hour_nanousd": limit.season_nanousd,
                **evidence,
            },
            summary=f"{_who(scope)} has spent {format_usd(spent)} {words}{usual}{so_far}",
            next_action=f"Look at {scope.spenders}; mark it as planned if somebody meant it.",
        )


def _episode(scope: Scope, window: Window, hour_ms: int, spent: int, median: float) -> tuple[dict[str, Any], str]:
    """What the breaching hours of the episode have cost with this one: as evidence, and as the end of a sentence."""
    others = _hours(scope).breaches(min(window.start_ms, hour_ms), window.end_ms, besides_ms=hour_ms)
    hours = others.hours + 1
    above = others.total_nanousd + spent - int(hours * Fraction(median))
    dearest = (others.dearest_ms, others.dearest_nanousd) if others.dearest_nanousd > spent else (hour_ms, spent)
    evidence = {
        "hour_start_ms": hour_ms,
        "breaching_hours": hours,
        "dearest_hour_start_ms": dearest[0],
        "dearest_hour_nanousd": dearest[1],
        "above_usual_nanousd": above,
    }
    return evidence, f"; {hours} such hours have cost {format_usd(above)} more than usual" if hours > 1 else ""


def _hours(scope: Scope) -> HourlyHistory:
    assert scope.history is not None
    return scope.history.hours


def _who(scope: Scope) -> str:
    return scope.label


def _exact(twice: int) -> int | float:
    return twice // 2 if twice % 2 == 0 else twice / 2


def _at_most(severity: Severity, most: Severity) -> Severity:
    """Nobody knows that it is wrong: it wakes no one up."""
    ranks: tuple[Severity, ...] = ("info", "warning", "error", "critical")
    return min(severity, most, key=ranks.index)
