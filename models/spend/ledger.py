"""Spend into scopes: the add and the compare, and what follows when a trip is reached."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

from models.attribution import OVERFLOW, Router
from models.baselines.episodes import Episode, beginning_with
from models.calendar import Window
from models.commands.commands import Commands, Stop
from models.commands.enforcement import Enforcement
from models.detectors.base import ScopeDetector
from models.incidents.incident import Subject
from models.incidents.incidents import Incidents
from models.rules.finding import Finding
from models.spend.across import SpendAcross
from models.spend.hours import Hours
from models.spend.ownership import owners_of, shares_as_evidence
from models.spend.small_runs import SmallRuns, small_runs
from models.state.partition import PartitionState
from models.state.spend.scopes import AT_ONCE, TOP_RUNS, Meter, Scope
from models.state.tenant import Raised, Tenant
from models.state.units.route import Route
from models.state.units.runs import Run
from models.state.units.unit import MAX_NANOUSD, NO_TRIP
from schemas.control import Target
from schemas.internal.spend import SpendDelta
from schemas.money import format_usd
from schemas.policy import Action
from schemas.usage import UNATTRIBUTED

MOST_TOP_RUNS: Final = 5
MOST_RUNS_LISTED: Final = 20_000
"""With more runs awake than this, an alert does not rank them: it must not hold up the kill."""


class SpendLedger:
    """The scopes of a partition."""

    def __init__(
        self,
        state: PartitionState,
        router: Router,
        hours: Hours,
        across: SpendAcross,
        incidents: Incidents,
        commands: Commands,
        enforcement: Enforcement,
    ) -> None:
        self._state = state
        self._router = router
        self._hours = hours
        self._across = across
        self._incidents = incidents
        self._commands = commands
        self._enforcement = enforcement

    def policy_changed(self, tenant: Tenant) -> None:
        """Limits may differ from here on: forget what was worked out, and judge every scope at once."""
        meters = self._state.policy.meters
        for scope in tenant.scopes.values():
            scope.follow(meters.get(scope.meter.meter_id) or _without_rules(scope.meter))
            history = scope.history
            if history and not scope.meter.keeps_history and not len(history.hours) and not len(history.days):
                # It begins anew, as after a restart, if it is asked for again.
                self._state.forget(history)
                scope.history = None
        for key in sorted(tenant.scopes):
            if key[0] in meters:  # else nobody asks, until a policy does again
                self._state.breathe()
                self._judge_now(tenant, tenant.scopes[key])

    def charge(self, tenant: Tenant, run: Run | None, route: Route, cost_nanousd: int, at_ms: int) -> None:
        """Book spend. Per scope: one add, one compare; the rest only when the hour turns or a trip is reached."""
        hours = self._hours
        if not hours.start_ms <= at_ms < hours.end_ms:
            hours.move_to(at_ms)
        segment_ms = hours.start_ms
        dirty = self._state.dirty
        owner = route.owner
        for scope in route.scopes:
            if scope.segment_ms != segment_ms:
                if scope.closed_at(at_ms):
                    self._charge_late(tenant, run, route, scope, cost_nanousd, at_ms)
                    continue
                if segment_ms > scope.segment_ms:
                    self._enter(tenant, scope, at_ms)
            if scope.meter.splits_owners:
                if scope.shares is not None:
                    scope.shares.add(owner, cost_nanousd)
                elif scope.owner != owner:
                    scope.charge_share(owner, cost_nanousd)
            scope.total_nanousd += cost_nanousd
            if not scope.dirty:
                scope.dirty = True
                dirty.append(scope)
            if scope.total_nanousd >= scope.trip:
                scope.at_ms = max(at_ms, scope.segment_ms)
                self._judge(tenant, scope, run, at_ms)
        if route.across and cost_nanousd:
            self._across.add(route.across, segment_ms, at_ms, cost_nanousd)

    def charge_across(self, tenant: Tenant, delta: SpendDelta) -> None:
        """Book what a partition's tenants have spent in scopes across tenants; `tenant` stands for all.

        Left out is what no rule in force here counts: a policy reaches partitions one after the other.
        """
        for one in delta.amounts:
            meter = self._state.policy.meters.get(one.meter_id)
            if meter is None or not meter.is_across or len(one.values) != len(meter.group_by):
                continue
            route = self._router.route_across(tenant, meter, one.values, one.owner)
            if one.is_booked:
                self.book_past(tenant, route, one.nanousd, one.at_ms)
            else:
                self.charge(tenant, None, route, one.nanousd, one.at_ms)

    def book_past(self, tenant: Tenant, route: Route, cost_nanousd: int, at_ms: int) -> None:
        """Book spend of a day that is over, into every period that holds it. The present is judged with it; of what is
        over nobody is told, and nobody is stopped for it.
        """
        for scope in route.scopes:
            self._enter_present(tenant, scope)
            scope.add_late(self._state.policy.calendar, at_ms, cost_nanousd, route.owner)
            if scope.history is not None:
                self._state.touch(scope.history)
            self._judge(tenant, scope, None, scope.at_ms)
        if route.across:
            self._across.book(route.across, self._hours.around(at_ms)[0], at_ms, cost_nanousd)

    def admit(self, tenant: Tenant, run: Run, route: Route, at_ms: int) -> None:
        """A run starts: where a limit is reached already, it is stopped before its first model call."""
        self.charge(tenant, run, route, 0, at_ms)

    def accepted(self, tenant: Tenant, route: Route) -> None:
        """An output was accepted: what was spent so far in the scopes of its run has bought it, where a rule asks."""
        for scope in route.scopes:
            if scope.periods and any(rule.renews for rule in self._rules(scope)):
                scope.accepted_nanousd = scope.total_nanousd
                self._judge_now(tenant, scope)

    def raise_limit(self, tenant: Tenant, exception: Raised) -> None:
        """An operator raised a budget for a while: judge its scope at once, and never reset its spend.

        A scope in which nothing has been spent yet takes over the new limit when it comes into being.
        """
        tenant.raise_limit(exception, self._state.now_ms)
        everybody = self._state.all_tenants().values()
        self._state.raised_until_ms = {until_ms for one in everybody for *_, until_ms in one.raised}
        self._hours.limits_changed()
        self._state.touch(tenant)
        for key in sorted(tenant.scopes):
            scope = tenant.scopes[key]
            if scope.watched_by(exception.rule) and scope.override_key == exception.scope:
                scope.raised[exception.rule] = (exception.limit_nanousd, exception.until_ms)
                if not scope.is_new:
                    scope.segment_ms = -1
                    self._judge_now(tenant, scope)

    def limit_due(self, tenant: Tenant, key: tuple[str, ...], now_ms: int) -> None:
        """A limit of a scope has ended by itself: what is true under the next one is so at once, spend or none."""
        scope = tenant.scopes.get(key)
        if scope is not None and scope.due_ms == now_ms:
            self._judge_now(tenant, scope)

    def resume_scope(self, tenant: Tenant, scope_id: str, until_ms: int | None) -> None:
        """An operator lets a scope go on: it has one more allowance of each limit that is reached there, until the
        period ends; with `until_ms`, as much as it likes until then.
        """
        scope = next((one for one in tenant.scopes_named(scope_id) if one.periods), None)
        if scope is None:
            return
        for rule in self._rules(scope):
            if rule.is_exhausted(scope):
                finding = next(iter(rule.judge(scope)))
                allowed = NO_TRIP if until_ms is not None else int(finding.value + (finding.limit or 0))
                ends_ms = until_ms or scope.window(rule.period()).end_ms
                self.raise_limit(tenant, Raised(rule.rule, scope.override_key, allowed, ends_ms))

    def plan(self, tenant: Tenant, incident_id: str) -> None:
        """Somebody meant the spend that an incident is about, over or not: its hours are no part of what is normal."""
        for key in sorted(tenant.scopes):
            scope = tenant.scopes[key]
            for rule in self._rules(scope):
                if rule.has_baseline and (episode := self._episode(tenant, scope, rule, incident_id)) is not None:
                    if rule.keeps_days:
                        scope.plan_days(rule.rule, episode)
                    else:
                        scope.plan(episode)
                    self._state.touch(scope)
                    if scope.history is not None:
                        self._state.touch(scope.history)

    def exhausted_by(self, tenant: Tenant, run: Run, at_ms: int) -> None:
        """Want again what every exhausted limit asks for a run whose command has ended."""
        for scope in self._router.route_of(tenant, run).scopes:
            if scope.periods and not scope.closed_at(at_ms):
                self._stop_spender(tenant, scope, run, at_ms)

    def scope_reopened(self, tenant: Tenant, scope_id: str, at_ms: int) -> None:
        """The command to a scope has run out: where another limit is exhausted there, it is wanted again."""
        for scope in tenant.scopes_named(scope_id):
            if scope.periods:
                self._stop_spender(tenant, scope, None, at_ms)

    def _rules(self, scope: Scope) -> tuple[ScopeDetector[Any], ...]:
        return self._state.policy.scope_rules.get(scope.meter.meter_id, ())

    def _episode(self, tenant: Tenant, scope: Scope, rule: ScopeDetector[Any], incident_id: str) -> Episode | None:
        """The breaching hours that an incident is about: the scope's latest, or some of those that it remembers."""
        latest = scope.episodes.get(rule.rule)
        if latest is not None and self._is_about(tenant, scope, rule, latest[0], incident_id):
            return latest
        breaching = [] if scope.history is None else scope.history.hours.breaching_hours()
        for hour_ms in breaching:
            if self._is_about(tenant, scope, rule, hour_ms, incident_id):
                return beginning_with(hour_ms, breaching)
        return None

    def _is_about(
        self, tenant: Tenant, scope: Scope, rule: ScopeDetector[Any], first_ms: int, incident_id: str
    ) -> bool:
        return self._incidents.id_of(tenant, rule, (*scope.key, first_ms)) == incident_id

    def _judge_now(self, tenant: Tenant, scope: Scope) -> None:
        """A limit may be another one: find out what that means without waiting for spend."""
        if tenant.clock_ms:
            if scope.meter.parent is not None and scope.parent is None:
                scope.parent = tenant.scopes.get((scope.meter.parent.meter_id, *scope.values[:-1]))
            self._enter_present(tenant, scope)
            self._judge(tenant, scope, None, scope.at_ms)

    def _enter_present(self, tenant: Tenant, scope: Scope) -> None:
        now_ms = self._state.now_ms
        self._hours.move_to(now_ms)
        self._enter(tenant, scope, now_ms)
        scope.at_ms = scope.present_ms(now_ms)

    def _enter(self, tenant: Tenant, scope: Scope, at_ms: int) -> None:
        """Move on to the hour around `at_ms`. Whoever enters judges: with the spend that led here, or without any."""
        day = scope.periods.get("day")
        closed = scope.enter(self._state.policy.calendar, at_ms)
        scope.segment_ms = self._hours.start_ms
        scope.trip = AT_ONCE
        ends_ms = [one.limit_ends_ms(scope) for one in self._rules(scope)]
        tenant.wait_for_limit(scope, min(filter(None, ends_ms), default=0))
        self._state.touch(scope)
        if scope.history is not None and (closed is not None or scope.periods.get("day") is not day):
            self._state.touch(scope.history)  # in another time zone a day may end within an hour
            for rule in self._rules(scope) if closed else ():
                for finding in rule.judge_hour(scope):
                    self._apply(tenant, scope, rule, finding, None, at_ms)
        if scope.parent is not None and scope.parent.segment_ms < scope.segment_ms:
            self._enter(tenant, scope.parent, at_ms)

    def _judge(self, tenant: Tenant, scope: Scope, run: Run | None, at_ms: int) -> None:
        """Ask the scope's rules what is true now, and set the next trip."""
        scope.total_nanousd = min(scope.total_nanousd, MAX_NANOUSD)
        trip = NO_TRIP
        for rule in self._rules(scope):
            for finding in rule.judge(scope):
                self._apply(tenant, scope, rule, finding, run, at_ms)
            trip = min(trip, rule.next_trip(scope))
        scope.trip = trip

    def _charge_late(
        self, tenant: Tenant, run: Run | None, route: Route, scope: Scope, cost_nanousd: int, at_ms: int
    ) -> None:
        closed = scope.add_late(self._state.policy.calendar, at_ms, cost_nanousd, route.owner)
        scope.at_ms = scope.present_ms(self._state.now_ms)
        self._state.touch(scope)
        if scope.history is not None:
            self._state.touch(scope.history)
        for rule in self._rules(scope):
            for finding in rule.judge_closed(scope, closed, at_ms, self._state.now_ms):
                self._apply(tenant, scope, rule, finding, run, at_ms)  # a clock ahead may have closed the present
        # The running day or month may hold the late hour, and who spends late spends now: judge the scope's present.
        self._judge(tenant, scope, run, scope.at_ms)

    def _stop_spender(self, tenant: Tenant, scope: Scope, run: Run | None, at_ms: int) -> None:
        for rule in self._rules(scope):
            if rule.is_exhausted(scope):
                for finding in rule.judge(scope):
                    self._apply(tenant, scope, rule, finding, run, at_ms)

    def _apply(
        self,
        tenant: Tenant,
        scope: Scope,
        rule: ScopeDetector[Any],
        finding: Finding,
        run: Run | None,
        at_ms: int,
    ) -> None:
        """Note what a rule has found, and stop whoever spends in the scope where it asks for that."""
        window = finding.window or scope.window(rule.period())
        if finding.hour is not None:
            self._record_hour(scope, rule, finding, window, at_ms)
        if finding.level <= 0 and not tenant.incidents:
            return  # nothing is wrong, and nothing was
        late = (finding.ends_ms or window.end_ms) <= self._state.now_ms
        key: tuple[str | int, ...] = (*scope.key, window.start_ms)
        is_news = self._incidents.is_news(tenant, rule, finding, key)
        if is_news:
            finding = replace(finding, evidence={**finding.evidence, **self._who(tenant, scope, rule, window)})
            finding = _look_at_small_runs(finding, small_runs(tenant, scope, window))
        owner, owners = owners_of(scope, rule, window) if is_news or finding.level >= 1 else (None, ())
        subject = Subject(
            key=key,
            scope=scope.dimensions,
            owner=owner,
            owners=owners,
            window_start_ms=window.start_ms,
            window_end_ms=window.end_ms,
            ends_ms=finding.ends_ms,
            late=late,
        )
        targets = self._targets(tenant, scope, rule, run, window)
        self._enforcement.apply(tenant, rule, finding, subject, at_ms, targets)

    def _record_hour(
        self, scope: Scope, rule: ScopeDetector[Any], finding: Finding, window: Window, at_ms: int
    ) -> None:
        """Write down what a finding says of the hour or the day around `at_ms`: the baseline goes by it."""
        calendar = self._state.policy.calendar
        if finding.hour in ("breach", "notice"):
            hour_ms = min(calendar.window("hour", at_ms).start_ms, scope.window("hour").start_ms)
            scope.record_breach(rule.rule, hour_ms, is_sure=finding.hour == "breach")
            if scope.history is not None:
                self._state.touch(scope.history)
        elif finding.hour == "day_breach":
            day_ms = scope.window("day").start_ms  # that of another time zone, until it is over
            if at_ms < day_ms:
                day_ms = calendar.window("day", at_ms).start_ms
            scope.record_day(rule.rule, day_ms)
        elif finding.hour == "new_normal" and scope.history is not None:
            scope.history.hours.restart(window.start_ms)
            scope.episodes.pop(rule.rule, None)
            self._state.touch(scope.history)

    def _who(self, tenant: Tenant, scope: Scope, rule: ScopeDetector[Any], window: Window) -> dict[str, Any]:
        """Evidence of who spends: the dearest live runs, and what every owner has spent in the period. Across tenants
        no run is known.
        """
        evidence: dict[str, Any] = {}
        if not scope.meter.is_across:
            spending = self._runs_in(tenant, scope) if len(tenant.runs) <= MOST_RUNS_LISTED else []
            top = sorted(spending, key=lambda one: (-one.cost_nanousd, one.unit_id))[:MOST_TOP_RUNS]
            evidence["top_runs"] = [{"run_id": one.unit_id, "cost_nanousd": one.cost_nanousd} for one in top]
        if rule.limit_action is not None:
            evidence["scope_id"] = scope.scope_id
        return evidence | shares_as_evidence(scope, rule, window)

    def _targets(
        self,
        tenant: Tenant,
        scope: Scope,
        rule: ScopeDetector[Any],
        run: Run | None,
        window: Window,
    ) -> Callable[[bool, Action], Iterable[Stop]]:
        """Whom to stop: the scope, so that nobody new begins; on news all who spend there, later whoever does."""

        def targets(is_news: bool, action: Action) -> Iterable[Stop]:
            spenders = sorted(self._runs_in(tenant, scope), key=lambda one: one.unit_id) if is_news else [run]
            for one in spenders:
                if one is not None and self._may_be_stopped(one, rule):
                    expires_ms = 0 if action == "kill" else window.end_ms
                    yield Stop(Target("run", one.unit_id), one.cost_nanousd, expires_ms)
            if OVERFLOW not in scope.values and not tenant.is_overflow:
                # Nobody new begins until the period ends. That is a pause: a kill would stand until a person lifts it.
                held: Action = "downgrade" if action == "downgrade" else "pause"
                yield Stop(Target("scope", scope.scope_id), 0, window.end_ms, scope.allowed_values(), held)

        return targets

    def _may_be_stopped(self, run: Run, rule: ScopeDetector[Any]) -> bool:
        """Whether the run lives, and nobody has allowed it to go on for now."""
        grant = run.grant(rule.rule)
        granted = grant is not None and grant.holds(run, self._state.now_ms)
        return bool(run.unit_id) and run.state == "live" and not granted

    def _runs_in(self, tenant: Tenant, scope: Scope) -> list[Run]:
        """The live runs whose latest message counted in the scope."""
        return [run for run in tenant.live() if scope in self._router.route_of(tenant, run).scopes]


def _look_at_small_runs(finding: Finding, found: SmallRuns | None) -> Finding:
    """What to do where looking at single runs leads nowhere."""
    if found is None:
        return finding
    starter = f"what starts the runs of {found.workflow}" if found.workflow != UNATTRIBUTED else "what starts the runs"
    where = f"{starter} ({found.runs:,} lately, usually {format_usd(found.median_nanousd)} each)"
    return replace(finding, next_action=finding.next_action.replace(TOP_RUNS, where))


def _without_rules(meter: Meter) -> Meter:
    """A meter that no rule of the policy needs any more: its scopes keep what they know."""
    return replace(meter, rules=(), parent=None)
