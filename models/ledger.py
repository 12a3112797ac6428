"""Spend into scopes: which scopes a message counts in, the add and the compare, and what follows a trip."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from models.brakes import Brakes
from models.cohort import Cohort
from models.detectors.base import ScopeDetector, SequenceDetector, UnitDetector
from models.effects import Effect
from models.finding import Finding
from models.incident import Incident, Subject
from models.incidents import Incidents
from models.partition import PartitionState
from models.policy import canonical_match, matches
from models.runs import NO_ATTRIBUTION, Attributes, RouteKey, Run, UnitKind
from models.scopes import NO_TRIP, Meter, Scope
from models.tenant import Tenant
from models.totals import FLUSH_MS, KEEP_MS, HourTotals
from models.verdict import verdict
from schemas.control import Target
from schemas.operator import LimitException
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
        "cohort", "dimensions", "model_rules", "owner", "run_rules", "scopes", "session_rules", "tool_rules", "totals",
        "tree_rules", "workflow",
    )  # fmt: skip

    def __init__(self, dimensions: dict[str, str], scopes: tuple[Scope, ...], cohort: Cohort) -> None:
        self.dimensions = dimensions
        self.scopes = scopes
        self.cohort = cohort
        self.workflow = dimensions["workflow"]
        self.owner = dimensions["owner"]
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
        for tenant in self._state.tenants.values():
            tenant.routes.clear()
            for scope in tenant.scopes.values():
                scope.meter = self._state.policy.meters.get(scope.meter.meter_id) or _without_rules(scope.meter)
                scope.segment_ms = -1
            if tenant.clock_ms:
                self._move_to(tenant.clock_ms)
                for key in sorted(tenant.scopes):
                    self._enter(tenant, tenant.scopes[key], None, tenant.clock_ms)

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
        """The route of a run's latest model call."""
        if run.route is None:
            run.route = self.route(tenant, run.attributes, run.route_key)
        route: Route = run.route
        return route

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
                if segment_ms < scope.segment_ms:
                    self._charge_late(tenant, scope, run, cost_nanousd, at_ms)
                    continue
                self._enter(tenant, scope, run, at_ms)
            scope.total_nanousd += cost_nanousd
            if not scope.dirty:
                scope.dirty = True
                dirty.append(scope)
            if scope.total_nanousd >= scope.trip:
                scope.at_ms = at_ms
                self._judge(tenant, scope, run, route)

    def greet(self, tenant: Tenant, run: Run, route: Route, at_ms: int) -> None:
        """A run starts: where a limit is reached already, it is stopped before its first model call."""
        self.charge(tenant, run, route, 0, at_ms)

    def raise_limit(self, tenant: Tenant, exception: LimitException) -> None:
        """An operator raised a budget for a while: judge its scope at once, and never reset its spend."""
        for key in sorted(tenant.scopes):
            scope = tenant.scopes[key]
            rules = [rule.rule for rule in scope.meter.detectors]
            if exception.rule in rules and scope.override_key == exception.scope:
                scope.raised[exception.rule] = (exception.limit_nanousd, exception.until_ms)
                scope.segment_ms = -1
                self._move_to(tenant.clock_ms)
                self._enter(tenant, scope, None, tenant.clock_ms)

    def _move_to(self, at_ms: int) -> None:
        """Find the hour around `at_ms`, and the stretch of it in which no limit changes by itself."""
        window = self._state.policy.calendar.window("hour", at_ms)
        self._hour_start_ms, self._hour_end_ms = window.start_ms, window.end_ms
        start_ms, end_ms = window.start_ms, window.end_ms
        for boundary_ms in self._state.policy.boundaries_ms:
            if start_ms < boundary_ms <= at_ms:
                start_ms = boundary_ms
            elif at_ms < boundary_ms < end_ms:
                end_ms = boundary_ms
        self._segment_start_ms, self._segment_end_ms = start_ms, end_ms

    def _enter(self, tenant: Tenant, scope: Scope, run: Run | None, at_ms: int) -> None:
        closed = scope.enter(self._state.policy.calendar, at_ms)
        scope.segment_ms = self._segment_start_ms
        self._state.touch(scope)
        if closed and scope.history is not None:
            self._state.touch(scope.history)
            for rule in scope.meter.detectors:
                for finding in rule.hour_closed(scope):
                    self._found(tenant, scope, rule, finding, run, rule.period())
        if scope.parent is not None and scope.parent.segment_ms < scope.segment_ms:
            self._enter(tenant, scope.parent, run, at_ms)
        self._judge(tenant, scope, run, None)

    def _judge(self, tenant: Tenant, scope: Scope, run: Run | None, route: Route | None) -> None:
        """Ask the scope's rules what is wrong, stop whoever spends past a limit, and set the next trip."""
        trip = NO_TRIP
        for rule in scope.meter.detectors:
            for finding in rule.woken(scope):
                self._found(tenant, scope, rule, finding, run, rule.period())
            if run is not None and route is not None and rule.standing(scope):
                self._stop_too(tenant, scope, rule, run)
            trip = min(trip, rule.next_trip(scope))
        scope.trip = trip

    def _found(
        self, tenant: Tenant, scope: Scope, rule: ScopeDetector[Any], finding: Finding, run: Run | None, period: Any
    ) -> None:
        window = scope.window(period)
        self._tell(tenant, scope, rule, finding, run, (window.start_ms, window.end_ms), late=False)

    def _charge_late(self, tenant: Tenant, scope: Scope, run: Run, cost_nanousd: int, at_ms: int) -> None:
        hour_ms = self._state.policy.calendar.window("hour", at_ms).start_ms
        scope.add_late(at_ms, hour_ms, cost_nanousd)
        self._state.touch(scope)
        if scope.history is not None:
            self._state.touch(scope.history)
        for rule in scope.meter.detectors:
            for start_ms, end_ms, finding in rule.late(scope, at_ms):
                self._tell(tenant, scope, rule, finding, run, (start_ms, end_ms), late=True)
        # The running day or month may hold the late hour: judge those as of the scope's own time.
        self._judge(tenant, scope, run, None)

    def _tell(
        self,
        tenant: Tenant,
        scope: Scope,
        rule: ScopeDetector[Any],
        finding: Finding,
        run: Run | None,
        window_ms: tuple[int, int],
        *,
        late: bool,
    ) -> None:
        spending = self._runs_in(tenant, scope) if len(tenant.runs) <= MOST_RUNS_LISTED else []
        top = sorted(spending, key=lambda one: (-one.cost_nanousd, one.unit_id))[:TOP_RUNS]
        top_runs = [{"run_id": one.unit_id, "cost_nanousd": one.cost_nanousd} for one in top]
        finding = replace(finding, evidence={**finding.evidence, "top_runs": top_runs})
        subject = Subject(
            key=(*scope.key, window_ms[0]),
            scope=scope.dimensions,
            owner=_single_owner([self.route_of(tenant, one) for one in spending]),
            run_id=None,
            window_start_ms=window_ms[0],
            window_end_ms=window_ms[1],
            late=late,
        )
        incident = self._incidents.tell(tenant, rule, finding, subject, scope.at_ms)
        action = verdict(rule.settings.mode, finding, outcome=None, late=late)
        if incident is not None and action is not None:
            for one in sorted(self._runs_in(tenant, scope), key=lambda one: one.unit_id):
                self._order(tenant, incident, one, action, scope, window_ms[1])
            if run is not None and run.unit_id not in tenant.runs:
                self._order(tenant, incident, run, action, scope, window_ms[1])

    def _stop_too(self, tenant: Tenant, scope: Scope, rule: ScopeDetector[Any], run: Run) -> None:
        """The limit was reached before this run came: it is stopped at its first spend here."""
        window = scope.window(rule.period())
        incident = next(
            (
                incident
                for incident in tenant.incidents.values()
                if incident.alert.rule == rule.rule
                and incident.alert.scope == scope.dimensions
                and incident.alert.window_start_ms == window.start_ms
            ),
            None,
        )
        if incident is not None and rule.limit_action is not None:
            self._order(tenant, incident, run, rule.limit_action, scope, window.end_ms)

    def _order(
        self, tenant: Tenant, incident: Incident, run: Run, action: Any, scope: Scope, window_end_ms: int
    ) -> None:
        if not run.unit_id or run.state != "live":
            return
        self._brakes.order(
            tenant,
            Target("run", run.unit_id),
            action,
            incident,
            scope.at_ms,
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
        workflow = dimensions["workflow"]
        cohort = tenant.cohorts.get(workflow)
        if cohort is None:
            cohort = tenant.cohorts[workflow] = Cohort(tenant.tenant_id, workflow)
        route = Route(dimensions, tuple(scopes), cohort)
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

    def _scope(self, tenant: Tenant, meter: Meter, dimensions: dict[str, str]) -> Iterable[Scope]:
        values = tuple(dimensions.get(name, UNATTRIBUTED) for name in meter.group_by)
        scope = tenant.scopes.get((meter.meter_id, *values))
        if scope is None:
            if len(tenant.scopes) >= self._state.policy.header.max_scopes_per_tenant:
                values = tuple(
                    value if name == "tenant_id" else OVERFLOW
                    for name, value in zip(meter.group_by, values, strict=True)
                )
            scope = tenant.scopes.setdefault((meter.meter_id, *values), Scope(tenant.tenant_id, meter, values))
        if meter.parent is not None and scope.parent is None:
            scope.parent = next(iter(self._scope(tenant, meter.parent, dimensions)))
        yield scope


def _without_rules(meter: Meter) -> Meter:
    """A meter that no rule of the policy needs any more: its scopes keep what they know."""
    return Meter(meter.meter_id, meter.group_by, meter.match, meter.periods, meter.keeps_history, ())


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
