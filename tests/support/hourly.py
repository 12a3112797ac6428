"""Drives `hourly_spend` over one scope as the ledger does: enters hours, charges, judges, and records what it says."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from models.calendar import Calendar
from models.detectors.past.hourly_spend import HourlySpend, HourlySpendSettings
from models.rules.finding import Finding
from models.state.spend.scopes import AT_ONCE, Meter, Scope
from schemas.duration import HOUR_MS

USD = 10**9
MONDAY_MS = 1_793_577_600_000
"""2026-11-02T00:00:00Z, a Monday."""


class Told(NamedTuple):
    """A message about an incident that was not known before."""

    at_ms: int
    finding: Finding

    @property
    def hour(self) -> int:
        """Hours since `MONDAY_MS`."""
        return (self.at_ms - MONDAY_MS) // HOUR_MS

    @property
    def what(self) -> str:
        """`breach`, `new-normal` or `without-history`."""
        return self.finding.aspect or "breach"


def rule_of(**settings: Any) -> HourlySpend:
    """The rule with its defaults, but for these settings."""
    return HourlySpend(HourlySpendSettings.model_validate({"name": "hourly-5x", **settings}))


def scope_of(rule: HourlySpend, zone: str = "UTC", values: tuple[str, ...] = ("acme",)) -> Scope:
    """A scope that the rule watches, in which nothing has been spent."""
    group_by = ("tenant_id", "workflow")[: len(values)]
    meter = Meter(
        meter_id="meter",
        group_by=group_by,
        match=(),
        periods=("hour",),
        keeps_history=True,
        splits_owners=False,
        rules=(rule.rule,),
        calendar=Calendar(zone),
    )
    return Scope("acme", meter, values)


class HourlyDriver:
    """One scope under one rule. A parent has to be fed before its child."""

    def __init__(self, rule: HourlySpend, scope: Scope, parent: "HourlyDriver | None" = None) -> None:
        self.rule = rule
        self.scope = scope
        scope.parent = parent.scope if parent else None
        self._parent = parent
        self.told: list[Told] = []
        self.notes: list[Finding] = []
        """Every finding, those of incidents already known too."""
        self.reopened: list[Told] = []
        """Findings of an incident that was over by then."""
        self._open: dict[tuple[str, int], int] = {}
        self.judged = 0

    def spend(self, at_ms: int, usd: float) -> None:
        """Charge an amount to the hour around `at_ms`, late where that is over."""
        nanousd, scope = round(usd * USD), self.scope
        if scope.closed_at(at_ms):
            closed = scope.add_late(scope.meter.calendar, at_ms, nanousd, "team-a")
            for finding in self.rule.judge_closed(scope, closed, at_ms, scope.at_ms):
                self._note(finding, scope.at_ms, closed["hour"][0].start_ms)
            self._judge(scope.at_ms)
            return
        self._enter(at_ms)
        scope.total_nanousd += nanousd
        if scope.total_nanousd >= scope.trip:
            self._judge(at_ms)

    def hours(self, usd: Iterable[float], start_ms: int = MONDAY_MS) -> "HourlyDriver":
        """One charge in the middle of each hour."""
        for hour, amount in enumerate(usd):
            if amount:
                self.spend(start_ms + hour * HOUR_MS + HOUR_MS // 2, amount)
        return self

    def said(self, what: str = "breach") -> list[int]:
        """The hours in which incidents of that kind were opened."""
        return [told.hour for told in self.told if told.what == what]

    def _enter(self, at_ms: int) -> None:
        if self._parent is not None:
            self._parent._enter(at_ms)
        scope = self.scope
        if scope.periods and at_ms < scope.window("hour").end_ms:
            return
        if scope.enter(scope.meter.calendar, at_ms):
            for finding in self.rule.judge_hour(scope):
                self._note(finding, at_ms, scope.window("hour").start_ms)
        scope.trip = AT_ONCE

    def _judge(self, at_ms: int) -> None:
        self.judged += 1
        for finding in self.rule.judge(self.scope):
            self._note(finding, at_ms, self.scope.window("hour").start_ms)
        self.scope.trip = self.rule.next_trip(self.scope)

    def _note(self, finding: Finding, at_ms: int, hour_ms: int) -> None:
        assert finding.window is not None
        assert self.scope.history is not None
        if finding.hour in ("breach", "notice"):
            self.scope.record_breach(self.rule.rule, hour_ms, is_sure=finding.hour == "breach")
        elif finding.hour == "new_normal":
            self.scope.history.hours.restart(finding.window.start_ms)
            self.scope.episodes.pop(self.rule.rule, None)
        self.notes.append(finding)
        key = (finding.aspect, finding.window.start_ms)
        told = Told(at_ms, finding)
        if key not in self._open:
            self.told.append(told)
        elif at_ms >= self._open[key]:
            self.reopened.append(told)
        self._open[key] = max(self._open.get(key, 0), finding.ends_ms or finding.window.end_ms)
