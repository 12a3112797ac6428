"""Spend into scopes: which scopes a message counts in, the add and the compare, and what follows a trip."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from models.calendar import Window
from models.commands.commands import Brakes
from models.commands.standing import Origin
from models.detectors.base import ScopeDetector, SequenceDetector, UnitDetector
from models.effects import Effect
from models.incidents.incident import Subject
from models.incidents.incidents import Incidents
from models.rules.finding import Finding
from models.rules.policy import canonical_match, matches
from models.rules.verdict import verdict
from models.state.cohort import Cohort
from models.state.partition import PartitionState
from models.state.runs import MAX_NANOUSD, NO_ATTRIBUTION, Attributes, RouteKey, Run, UnitKind
from models.state.scopes import AT_ONCE, NO_TRIP, Meter, Scope
from models.state.tenant import Tenant
from models.state.totals import FLUSH_MS, KEEP_MS, HourTotals
from schemas.control import Target
from schemas.operator import LimitException
from schemas.policy import Action
from schemas.rollup import rollup_key
from schemas.usage import ATTRIBUTION, UNATTRIBUTED

OVERFLOW = "overflow"
"""The scope value that stands for all values beyond a tenant's limit of scopes."""
MAX_ROUTES = 50_000
TOP_RUNS = 5
MOST_RUNS_LISTED = 20_000
"""With more live runs than this, an alert does not rank them: it must not hold up the kill."""


class Route:
    """Everything that follows from a message's attribution, worked out once."""

    __slots__ = (
        "cohort", "model_rules", "owner", "run_rules", "scopes", "session_rules", "tool_rules", "totals", "tree_rules",
        "workflow",
    )  # fmt: skip

    def __init__(self, owner: str, scopes: tuple[Scope, ...], cohort: Cohort) -> None:
        self.scopes = scopes
        self.cohort = cohort
        self.workflow = cohort.workflow
        self.owner = owner
        self.totals: HourTotals | None = None
        self.run_rules: tuple[UnitDetector[Any], ...] = ()
        self.session_rules: tuple[UnitDetector[Any], ...] = ()
        self.tree_rules: tuple[UnitDetector[Any], ...] = ()
        self.tool_rules: tuple[SequenceDetector[Any], ...] = ()
        self.model_rules: tuple[SequenceDetector[Any], ...] = ()

    def unit_rules(self, kind: UnitKind) -> tuple[UnitDetector[Any], ...]:
        """The rules that watch this kind of unit."""
        match kind:
            case "run":
                return self.run_rules
            case "session":
                return self.session_rules
            case "run_tree":
                return self.tree_rules


class Ledger:
    """The scopes, routes and hourly totals of a partition."""

    def __init__(self, state: PartitionState, incidents: Incidents, brakes: Brakes) -> None:
        self._state = state
        self._incidents = incidents
        self._brakes = brakes
        self._segment_start_ms = 0
        self._segment_end_ms = 0
        self._hour_start_ms = 0
        self._hour_end_ms = 0

    def policy_changed(self) -> None:
        """Limits may differ from here on: forget what was worked out, and judge every scope at once."""
        self._segment_end_ms = 0
        for _, tenant in sorted(self._state.tenants.items()):
            tenant.routes.clear()
            for scope in tenant.scopes.values():
                scope.follow(self._state.policy.meters.get(scope.meter.meter_id) or _without_rules(scope.meter))
            for key in sorted(tenant.scopes):
                self._judge_now(tenant, tenant.scopes[key])

    def route(self, tenant: Tenant, attributes: Attributes, key: RouteKey) -> Route:
        """The route of a message. `key` is its own attribution, which goes before its run's `attributes`."""
        full_key = (attributes, key)
        route: Route | None = tenant.routes.get(full_key)
        if route is None:
            if len(tenant.routes) >= MAX_ROUTES:
                tenant.routes.clear()
            route = tenant.routes[full_key] = self._shared_route(tenant, attributes, key)
        return route

    def _shared_route(self, tenant: Tenant, attributes: Attributes, key: RouteKey) -> Route:
        """One route for all attributions that no rule tells apart: a user's or a feature's name, most of the time."""
        dimensions = dimensions_of(tenant.tenant_id, attributes, key)
        told_apart = tuple([dimensions.get(name) for name in self._state.policy.route_dimensions])
        route: Route | None = tenant.routes.get(told_apart)
        if route is None:
            route = tenant.routes[told_apart] = self._new_route(tenant, dimensions)
        return route

    def route_of(self, tenant: Tenant, run: Run) -> Route:
        """The route of a run's latest model call. It is not made the run's own here: that sets trips as well."""
        route: Route | None = run.route
        return self.route(tenant, run.attributes, run.route_key) if route is None else route

    def totals(self, tenant: Tenant, route: Route, at_ms: int) -> HourTotals:
        """The hourly totals to count in; counting is announced, so that a rollup follows."""
        totals = route.totals
        if totals is None or not totals.start_ms <= at_ms < totals.end_ms or totals.deleted:
            if not self._hour_start_ms <= at_ms < self._hour_end_ms:
                self._move_to(at_ms)
            key = (route.workflow, self._hour_start_ms)
            totals = tenant.totals.get(key)
            if totals is None:
                totals = tenant.totals[key] = HourTotals(
                    tenant.tenant_id, route.workflow, self._hour_start_ms, self._hour_end_ms
                )
            route.totals = totals
        if not totals.flush_ms:
            totals.flush_ms = tenant.clock_ms + FLUSH_MS
            self._wait(tenant, totals, totals.flush_ms)
        if not totals.dirty:
            self._state.touch(totals)
        return totals

    def totals_due(self, tenant: Tenant, workflow: str, start_ms: int, now_ms: int) -> None:
        """A rollup is due, or an hour so old that nothing can change it any more."""
        totals = tenant.totals.get((workflow, start_ms))
        if totals is None or totals.due_ms != now_ms:
            return
        if totals.flush_ms and now_ms >= totals.flush_ms:
            totals.flush_ms = 0
            key = rollup_key(tenant.tenant_id, workflow, start_ms)
            self._state.publish(Effect("rollups.v1", key, totals.rollup(now_ms)))
        if now_ms >= totals.end_ms + KEEP_MS:
            del tenant.totals[workflow, start_ms]
            self._state.forget(totals)
        else:
            self._wait(tenant, totals, totals.end_ms + KEEP_MS)

    def _wait(self, tenant: Tenant, totals: HourTotals, due_ms: int) -> None:
        totals.due_ms = due_ms
        tenant.wake_at(due_ms, "totals", (totals.workflow, str(totals.start_ms)))
        self._state.touch(totals)

    def charge(self, tenant: Tenant, run: Run, route: Route, cost_nanousd: int, at_ms: int) -> None:
        """Book spend. Per scope: one add, one compare; the rest only when the hour turns or a trip is reached."""
        if not self._segment_start_ms <= at_ms < self._segment_end_ms:
            self._move_to(at_ms)
        segment_ms = self._segment_start_ms
        dirty = self._state.dirty
        for scope in route.scopes:
            if scope.segment_ms != segment_ms:
                if scope.closed_at(at_ms):
                    self._charge_late(tenant, scope, cost_nanousd, at_ms)
                    continue
                if segment_ms > scope.segment_ms:
                    self._enter(tenant, scope, at_ms)
            scope.total_nanousd += cost_nanousd
            if not scope.dirty:
                scope.dirty = True
                dirty.append(scope)
            if scope.total_nanousd >= scope.trip:
                scope.at_ms = max(at_ms, scope.segment_ms)
                self._judge(tenant, scope, run, at_ms)

    def greet(self, tenant: Tenant, run: Run, route: Route, at_ms: int) -> None:
        """A run starts: where a limit is reached already, it is stopped before its first model call."""
        self.charge(tenant, run, route, 0, at_ms)

    def raise_limit(self, tenant: Tenant, exception: LimitException) -> None:
        """An operator raised a budget for a while: judge its scope at once, and never reset its spend.

        A scope in which nothing has been spent yet takes over the new limit when it comes into being.
        """
        now_ms = self._state.now_ms
        ends = self._state.raised_until_ms
        ends.difference_update([until_ms for until_ms in ends if until_ms < now_ms - KEEP_MS])
        ends.add(exception.until_ms)
        self._segment_end_ms = 0
        tenant.raise_limit(exception, now_ms)
        self._state.touch(tenant)
        for key in sorted(tenant.scopes):
            scope = tenant.scopes[key]
            if scope.watched_by(exception.rule) and scope.override_key == exception.scope:
                scope.raised[exception.rule] = (exception.limit_nanousd, exception.until_ms)
                scope.segment_ms = -1
                self._judge_now(tenant, scope)

    def plan(self, tenant: Tenant, incident_id: str) -> None:
        """Somebody meant the spend that an incident is about, over or not: its hour is no part of what is normal."""
        for key in sorted(tenant.scopes):
            scope = tenant.scopes[key]
            for rule in scope.meter.detectors:
                for start_ms in scope.told.get(rule.rule, ()) if rule.has_baseline else ():
                    if self._incidents.id_of(tenant, rule, (*scope.key, start_ms)) == incident_id:
                        self._plan_hour(scope, start_ms)

    def _plan_hour(self, scope: Scope, start_ms: int) -> None:
        scope.plan(start_ms)
        self._state.touch(scope)
        if scope.history is not None:
            self._state.touch(scope.history)

    def _move_to(self, at_ms: int) -> None:
        """Find the hour around `at_ms`, and the stretch of it in which no limit changes by itself."""
        window = self._state.policy.calendar.window("hour", at_ms)
        self._hour_start_ms, self._hour_end_ms = window.start_ms, window.end_ms
        start_ms, end_ms = window.start_ms, window.end_ms
        for boundary_ms in (*self._state.policy.boundaries_ms, *self._state.raised_until_ms):
            if start_ms < boundary_ms <= at_ms:
                start_ms = boundary_ms
            elif at_ms < boundary_ms < end_ms:
                end_ms = boundary_ms
        self._segment_start_ms, self._segment_end_ms = start_ms, end_ms

    def _judge_now(self, tenant: Tenant, scope: Scope) -> None:
        """A limit may be another one: find out what that means without waiting for spend."""
        if tenant.clock_ms:
            self._state.now_ms = tenant.clock_ms
            if scope.meter.parent is not None and scope.parent is None:
                scope.parent = tenant.scopes.get((scope.meter.parent.meter_id, *scope.values[:-1]))
            self._move_to(tenant.clock_ms)
            self._enter(tenant, scope, tenant.clock_ms)
            scope.at_ms = scope.present_ms(tenant.clock_ms)
            self._judge(tenant, scope, None, scope.at_ms)

    def _enter(self, tenant: Tenant, scope: Scope, at_ms: int) -> None:
        """Move on to the hour around `at_ms`. Whoever enters judges: with the spend that led here, or without any."""
        closed = scope.enter(self._state.policy.calendar, at_ms)
        scope.segment_ms = self._segment_start_ms
        scope.trip = AT_ONCE
        self._state.touch(scope)
        if closed and scope.history is not None:
            self._state.touch(scope.history)
            for rule in scope.meter.detectors:
                for finding in rule.hour_closed(scope):
                    self._tell(tenant, scope, rule, finding, scope.window(rule.period()), at_ms)
        if scope.parent is not None and scope.parent.segment_ms < scope.segment_ms:
            self._enter(tenant, scope.parent, at_ms)

    def _judge(self, tenant: Tenant, scope: Scope, run: Run | None, at_ms: int) -> None:
        """Ask the scope's rules what is wrong, stop the run that spends past a limit, and set the next trip."""
        scope.total_nanousd = min(scope.total_nanousd, MAX_NANOUSD)
        trip = NO_TRIP
        for rule in scope.meter.detectors:
            if rule.relieved(scope):
                self._relieve(tenant, scope, rule, at_ms)
            for finding in rule.woken(scope):
                self._tell(tenant, scope, rule, finding, scope.window(rule.period()), at_ms)
            if run is not None and rule.standing(scope):
                self._stop_too(tenant, scope, rule, run, at_ms)
            trip = min(trip, rule.next_trip(scope))
        scope.trip = trip
        scope.stamp = self._state.policy.stamp

    def _relieve(self, tenant: Tenant, scope: Scope, rule: ScopeDetector[Any], at_ms: int) -> None:
        """A raised limit is no longer reached: the incident is over, and reaching the new one is another."""
        incident = self._incidents.find(tenant, rule, (*scope.key, scope.window(rule.period()).start_ms))
        if incident is not None:
            self._incidents.resolve(tenant, incident, at_ms, {"limit_raised": True})
            self._brakes.relieve(tenant, incident.incident_id, at_ms)

    def _charge_late(self, tenant: Tenant, scope: Scope, cost_nanousd: int, at_ms: int) -> None:
        closed = scope.add_late(self._state.policy.calendar, at_ms, cost_nanousd)
        scope.at_ms = scope.present_ms(self._state.now_ms)
        self._state.touch(scope)
        if scope.history is not None:
            self._state.touch(scope.history)
        for rule in scope.meter.detectors:
            for window, finding in rule.late(scope, closed, at_ms):
                self._tell(tenant, scope, rule, finding, window, at_ms)
        # The running day or month may hold the late hour: judge those as of the scope's present.
        self._judge(tenant, scope, None, at_ms)

    def _tell(
        self,
        tenant: Tenant,
        scope: Scope,
        rule: ScopeDetector[Any],
        finding: Finding,
        window: Window,
        at_ms: int,
    ) -> None:
        late = window.end_ms <= self._state.now_ms
        spending = self._runs_in(tenant, scope) if len(tenant.runs) <= MOST_RUNS_LISTED else []
        top = sorted(spending, key=lambda one: (-one.cost_nanousd, one.unit_id))[:TOP_RUNS]
        top_runs = [{"run_id": one.unit_id, "cost_nanousd": one.cost_nanousd} for one in top]
        finding = replace(finding, evidence={**finding.evidence, "top_runs": top_runs})
        subject = Subject(
            key=(*scope.key, window.start_ms),
            scope=scope.dimensions,
            owner=_single_owner([self.route_of(tenant, one) for one in spending]),
            run_id=None,
            window_start_ms=window.start_ms,
            window_end_ms=window.end_ms,
            late=late,
        )
        action = verdict(rule.settings.mode, finding, outcome=None, late=late)

        def stop(origin: Origin) -> None:
            if action is not None:
                for one in sorted(self._runs_in(tenant, scope), key=lambda one: one.unit_id):
                    self._order(tenant, origin, one, action, at_ms, window.end_ms)

        self._incidents.tell(tenant, rule, finding, subject, at_ms, stop)

    def _stop_too(self, tenant: Tenant, scope: Scope, rule: ScopeDetector[Any], run: Run, at_ms: int) -> None:
        """The limit was reached before this run came: it is stopped at its first spend here."""
        window = scope.window(rule.period())
        incident = self._incidents.find(tenant, rule, (*scope.key, window.start_ms))
        if incident is not None and rule.limit_action is not None and self._state.now_ms < window.end_ms:
            self._order(tenant, incident.origin, run, rule.limit_action, at_ms, window.end_ms)

    def _order(self, tenant: Tenant, origin: Origin, run: Run, action: Action, at_ms: int, window_end_ms: int) -> None:
        if not run.unit_id or run.state != "live":
            return
        self._brakes.order(
            tenant,
            Target("run", run.unit_id),
            action,
            origin,
            at_ms,
            spent_nanousd=run.cost_nanousd,
            expires_ms=0 if action == "kill" else window_end_ms,
        )

    def _runs_in(self, tenant: Tenant, scope: Scope) -> list[Run]:
        """The live runs whose latest message counted in the scope."""
        runs = (tenant.run(run_id) for run_id in list(tenant.runs))
        return [
            run
            for run in runs
            if run is not None and run.state == "live" and scope in self.route_of(tenant, run).scopes
        ]

    def _new_route(self, tenant: Tenant, dimensions: dict[str, str]) -> Route:
        policy = self._state.policy
        scopes = [
            scope
            for meter in policy.meters.values()
            if matches(meter.match, dimensions)
            for scope in self._scope(tenant, meter, dimensions)
        ]
        route = Route(dimensions["owner"], tuple(scopes), self._cohort(tenant, dimensions["workflow"]))
        unit_rules = [rule for rule in policy.unit_rules if matches(canonical_match(rule.settings.match), dimensions)]
        route.run_rules = tuple(rule for rule in unit_rules if rule.per == "run")
        route.session_rules = tuple(rule for rule in unit_rules if rule.per == "session")
        route.tree_rules = tuple(rule for rule in unit_rules if rule.per == "run_tree")
        sequence_rules = [
            rule for rule in policy.sequence_rules if matches(canonical_match(rule.settings.match), dimensions)
        ]
        route.tool_rules = tuple(rule for rule in sequence_rules if "tool" in rule.calls)
        route.model_rules = tuple(rule for rule in sequence_rules if "model" in rule.calls)
        return route

    def _cohort(self, tenant: Tenant, workflow: str) -> Cohort:
        """The cohort of a workflow; all workflows beyond the tenant's limit share one, and their totals with it."""
        if workflow not in tenant.cohorts and len(tenant.cohorts) >= self._state.policy.header.max_workflows_per_tenant:
            workflow = OVERFLOW
        cohort = tenant.cohorts.get(workflow)
        if cohort is None:
            cohort = tenant.cohorts[workflow] = Cohort(tenant.tenant_id, workflow)
            self._state.touch(cohort)
        return cohort

    def _scope(self, tenant: Tenant, meter: Meter, dimensions: dict[str, str]) -> Iterable[Scope]:
        values = tuple(dimensions.get(name, UNATTRIBUTED) for name in meter.group_by)
        scope = tenant.scopes.get((meter.meter_id, *values))
        if scope is None:
            if len(tenant.scopes) >= self._state.policy.header.max_scopes_per_tenant:
                values = tuple(
                    value if name == "tenant_id" else OVERFLOW
                    for name, value in zip(meter.group_by, values, strict=True)
                )
            scope = tenant.scopes.get((meter.meter_id, *values)) or Scope(tenant.tenant_id, meter, values)
            if tenant.scopes.setdefault(scope.key, scope) is scope:
                scope.raised |= tenant.raised_for(scope)
        if meter.parent is not None and scope.parent is None:
            scope.parent = next(iter(self._scope(tenant, meter.parent, dimensions)))
        yield scope


def _without_rules(meter: Meter) -> Meter:
    """A meter that no rule of the policy needs any more: its scopes keep what they know."""
    return Meter(meter.meter_id, meter.group_by, meter.match, meter.periods, meter.keeps_history, (), meter.calendar)


def dimensions_of(tenant_id: str, attributes: Attributes, key: RouteKey) -> dict[str, str]:
    """Every dimension of a message: its own attribution, else its run's, else `unattributed`."""
    *own, tags, model, provider, route = key
    *inherited, inherited_tags = attributes or (*NO_ATTRIBUTION, None)
    dimensions = {"tenant_id": tenant_id, "model": model, "provider": provider, "route": route}
    for name, mine, theirs in zip(ATTRIBUTION, own, inherited, strict=True):
        dimensions[name] = mine or theirs
    for pairs in (inherited_tags, tags):
        dimensions |= {f"tags.{name}": value for name, value in pairs or ()}
    return {name: value or UNATTRIBUTED for name, value in dimensions.items()}


def _single_owner(routes: list[Route]) -> str | None:
    """The owner of all these runs, if they have one and the same."""
    owners = {route.owner for route in routes}
    owner = owners.pop() if len(owners) == 1 else None
    return None if owner == UNATTRIBUTED else owner
