"""Whose spend it is: from a message's attribution to the scopes, the cohort and the rules that follow from it."""

from collections.abc import Callable, Iterable
from operator import attrgetter
from sys import getsizeof
from typing import Any, Final, TypeVar

from models.rules.policy import Match, Policy, matches
from models.state.partition import PartitionState
from models.state.spend.breakdown import Names
from models.state.spend.cohort import Cohort
from models.state.spend.scopes import Meter, Scope
from models.state.spend.unsent import Part
from models.state.tenant import Tenant
from models.state.units.route import Route, RouteRules
from models.state.units.runs import NO_ATTRIBUTION, NO_CALL, Attributes, RouteKey, Run
from schemas.rollup import BREAKDOWNS
from schemas.usage import ATTRIBUTION, UNATTRIBUTED, LlmCall, UsageMessage

R = TypeVar("R")

OVERFLOW: Final = "overflow"
"""The scope value that stands for all values beyond a tenant's limit of scopes."""
MAX_ROUTES: Final = 50_000
MAX_ROUTE_BYTES: Final = 8 << 20
"""Of memory that the remembered routes of a tenant take, about: what producers say may be long, and rules many."""
ROUTE_BYTES: Final = 600
"""Of a route without its names and scopes."""

_PLACES: Final = {name: place for place, name in enumerate(ATTRIBUTION)}
_PLACES_OF_NAMES: Final = tuple([_PLACES[name] for name in BREAKDOWNS[1:]])
_PLACES_OF_CALL: Final = {"model": 0, "provider": 1, "route": 2}
_own_attribution: Callable[[Any], Attributes] = attrgetter(*ATTRIBUTION, "tags")


class Router:
    """The routes of a partition's messages, remembered within bounds."""

    def __init__(self, state: PartitionState) -> None:
        self._state = state

    def key_of(self, message: UsageMessage) -> RouteKey:
        """A message's own attribution, and the call where scopes depend on it."""
        own = _own_attribution(message)
        if message.tags is not None:
            own = (*own[:-1], tuple(sorted(message.tags.items())) or None)
        if self._state.policy.by_call and type(message) is LlmCall:
            return own, (message.model, message.provider, message.route)
        return own, NO_CALL

    def route(self, tenant: Tenant, attributes: Attributes, key: RouteKey) -> Route:
        """The route of a message. `key` is its own attribution, which goes before its run's `attributes`.

        All attributions that no rule tells apart share one, most of the time those of all users and features: what
        rules do not look at is not remembered.
        """
        told_apart = tuple([dimension_of(name, attributes, key) for name in self._state.policy.route_dimensions])
        route = tenant.routes.get(told_apart)
        if route is None:
            dimensions = dimensions_of(tenant.tenant_id, attributes, key)
            self._state.policy.complete(dimensions)
            route = self._new(tenant, dimensions)
            self._remember(tenant, told_apart, route)
        return route

    def _remember(self, tenant: Tenant, told_apart: tuple[str | None, ...], route: Route) -> None:
        """Keep a route for the next message like this one; what was kept before goes where it has become too much."""
        size = ROUTE_BYTES + sum(map(getsizeof, told_apart)) + 8 * len(route.scopes)
        if len(tenant.routes) >= MAX_ROUTES or tenant.route_bytes + size > MAX_ROUTE_BYTES:
            tenant.routes.clear()
            tenant.route_bytes = 0
        tenant.routes[told_apart] = route
        tenant.route_bytes += size

    def names(self, tenant: Tenant, attributes: Attributes, key: RouteKey, model: str) -> Names:
        """What a message counts under in each of the `BREAKDOWNS`."""
        if self._state.policy.gives:
            dimensions = dimensions_of(tenant.tenant_id, attributes, key)
            self._state.policy.complete(dimensions)
            return (model, *[dimensions[name] for name in BREAKDOWNS[1:]])
        own, inherited = key[0], attributes or NO_ATTRIBUTION
        return (model, *[own[place] or inherited[place] or UNATTRIBUTED for place in _PLACES_OF_NAMES])

    def without_call(self, tenant: Tenant, run: Run, route: Route, key: RouteKey) -> Route:
        """The route of a message that differs from `route`, its run's, only in that it is no model call."""
        if route.without_call is None:
            found = self.route(tenant, run.attributes, key)
            if found is route:  # state is free of cycles
                return route
            route.without_call = found
        return route.without_call

    def route_of(self, tenant: Tenant, run: Run) -> Route:
        """The route of a run's latest model call. It is not made the run's own here: that sets trips as well."""
        return self.route(tenant, run.attributes, run.route_key) if run.route is None else run.route

    def policy_changed(self, tenant: Tenant) -> None:
        """Forget what followed from the old policy, scopes in which nobody has spent yet among it."""
        tenant.routes.clear()
        tenant.route_bytes = 0
        tenant.scope_ids.clear()
        tenant.scopes = {key: scope for key, scope in tenant.scopes.items() if not scope.is_new}

    def _new(self, tenant: Tenant, dimensions: dict[str, str]) -> Route:
        policy = self._state.policy
        scopes = tuple(
            self._scope(tenant, meter, dimensions) for meter in policy.tenant_meters if matches(meter.match, dimensions)
        )
        across = tuple(_part(meter, dimensions) for meter in policy.across_meters if matches(meter.match, dimensions))
        rules = RouteRules(
            _matching(policy.unit_rules, dimensions),
            _matching(policy.sequence_rules, dimensions),
            _matching(policy.context_rules, dimensions),
            _matching(policy.workflow_rules, dimensions),
            _matching(policy.result_rules, dimensions),
            _matching(policy.escalation_rules, dimensions),
        )
        cohort = self._cohort(tenant, dimensions["workflow"])
        return Route(dimensions["owner"], scopes, cohort, rules, across)

    def route_across(self, tenant: Tenant, meter: Meter, values: tuple[str, ...], owner: str) -> Route:
        """The route of spend in a scope across tenants; `tenant` stands for all."""
        names = (meter.meter_id, *values, owner)
        route = tenant.routes.get(names)
        if route is None:
            scope = self._scope(tenant, meter, dict(zip(meter.group_by, values, strict=True)))
            route = Route(owner, (scope,), Cohort(tenant.tenant_id, UNATTRIBUTED), RouteRules())
            self._remember(tenant, names, route)
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

    def _scope(self, tenant: Tenant, meter: Meter, dimensions: dict[str, str]) -> Scope:
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
                tenant.scope_ids.clear()
                scope.raised |= tenant.raised_for(scope)
        if meter.parent is not None and scope.parent is None:
            scope.parent = self._scope(tenant, meter.parent, dimensions)
        return scope


def attribution_of(run: Run, policy: Policy) -> dict[str, str]:
    """Whose spend a run's is: by its own word, else by the policy's. Dimension -> value, as far as it is known."""
    known = dimensions_of(run.tenant_id, run.attributes, run.route_key)
    policy.complete(known)
    return {name: known[name] for name in ATTRIBUTION if known[name] != UNATTRIBUTED}


def _matching(rules: Iterable[tuple[R, Match]], dimensions: dict[str, str]) -> tuple[R, ...]:
    """Those whose match has these dimensions."""
    return tuple(rule for rule, match in rules if matches(match, dimensions))


def _part(meter: Meter, dimensions: dict[str, str]) -> Part:
    """What spend with these dimensions adds to in a meter across tenants."""
    values = tuple(dimensions.get(name, UNATTRIBUTED) for name in meter.group_by)
    return Part(meter.meter_id, values, dimensions["owner"] if meter.splits_owners else "")


def dimension_of(name: str, attributes: Attributes, key: RouteKey) -> str | None:
    """One dimension of a message as `dimensions_of` has it; None where that has `unattributed` or nothing at all."""
    own, call = key
    place = _PLACES.get(name)
    if place is not None:
        return own[place] or (attributes[place] if attributes else None)
    if name in _PLACES_OF_CALL:
        return call[_PLACES_OF_CALL[name]]
    for pairs in (own[-1], attributes[-1] if attributes else None):
        for tag, value in pairs or ():
            if f"tags.{tag}" == name:
                return str(value)
    return None


def dimensions_of(tenant_id: str, attributes: Attributes, key: RouteKey) -> dict[str, str]:
    """Every dimension of a message: its own attribution, else its run's, else `unattributed`."""
    (*own, tags), (model, provider, route) = key
    *inherited, inherited_tags = attributes or (*NO_ATTRIBUTION, None)
    dimensions = {"tenant_id": tenant_id, "model": model, "provider": provider, "route": route}
    for name, mine, theirs in zip(ATTRIBUTION, own, inherited, strict=True):
        dimensions[name] = mine or theirs
    for pairs in (inherited_tags, tags):
        dimensions |= {f"tags.{name}": value for name, value in pairs or ()}
    return {name: value or UNATTRIBUTED for name, value in dimensions.items()}
