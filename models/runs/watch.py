"""Watching runs, sessions and run trees: counters, the rules woken by them, and the rules about order."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from models.commands.commands import Brakes
from models.commands.standing import Origin
from models.detectors.base import Detector, UnitDetector
from models.incidents.incident import Subject
from models.incidents.incidents import Incidents
from models.rules.finding import Finding
from models.rules.verdict import verdict
from models.spend.ledger import Route
from models.state.partition import PartitionState
from models.state.runs import MAX_NANOUSD, Group, Run, Unit
from models.state.tenant import Tenant
from schemas.control import Target
from schemas.usage import UNATTRIBUTED, LlmCall, ToolCall

DAY_MS = 24 * 3_600_000
MOST_UNPRICED_MODELS = 100
OTHER_MODELS = "other models"


class Watch:
    """The units of a partition at work."""

    def __init__(self, state: PartitionState, incidents: Incidents, brakes: Brakes) -> None:
        self._state = state
        self._incidents = incidents
        self._brakes = brakes
        self._premium: dict[str, bool] = {}

    def policy_changed(self) -> None:
        """Forget what followed from the old policy."""
        self._premium.clear()

    def model_call(self, tenant: Tenant, run: Run, route: Route, call: LlmCall, cost_nanousd: int, at_ms: int) -> None:
        """Count a model call in its run, session and tree, and ask whoever is concerned."""
        premium = self._is_premium(call.model)
        retry = call.attempt > 1
        for unit in self._units(tenant, run):
            unit.cost_nanousd += cost_nanousd
            unit.calls += 1
            unit.retries += retry
            unit.premium_calls += premium
            if (
                unit.cost_nanousd >= unit.cost_trip
                or unit.calls >= unit.calls_trip
                or unit.retries >= unit.retries_trip
                or unit.premium_calls >= unit.premium_calls_trip
                or at_ms >= unit.deadline_ms
            ):
                self.wake(tenant, unit, run, route, at_ms)
            if at_ms > unit.last_ms:
                unit.last_ms = at_ms
        if route.model_rules and run.unit_id and run.state == "live":
            run.trail.model(call)
            for rule in route.model_rules:
                if (finding := rule.step(run.trail, call)) is not None:
                    self._tell(tenant, run, run, route, rule, finding, at_ms)

    def tool_call(self, tenant: Tenant, run: Run, route: Route, call: ToolCall, cost_nanousd: int, at_ms: int) -> None:
        """Count a tool call in its run, session and tree, and ask whoever is concerned."""
        for unit in self._units(tenant, run):
            unit.tool_calls += 1
            unit.cost_nanousd += cost_nanousd
            if (
                unit.tool_calls >= unit.tool_calls_trip
                or unit.cost_nanousd >= unit.cost_trip
                or at_ms >= unit.deadline_ms
            ):
                self.wake(tenant, unit, run, route, at_ms)
            if at_ms > unit.last_ms:
                unit.last_ms = at_ms
        if route.tool_rules and run.unit_id and run.state == "live":
            run.trail.tool(call)
            for rule in route.tool_rules:
                if (finding := rule.step(run.trail, call)) is not None:
                    self._tell(tenant, run, run, route, rule, finding, at_ms)

    def wake(self, tenant: Tenant, unit: Unit, run: Run, route: Route, at_ms: int) -> None:
        """Ask a unit's rules what is wrong with it, and set its next trips."""
        if not unit.unit_id:
            return
        unit.now_ms = max(unit.last_ms, at_ms)
        unit.cost_nanousd = min(unit.cost_nanousd, MAX_NANOUSD)
        for rule in route.unit_rules(unit.unit_kind):
            for finding in rule.woken(unit, route.cohort):
                self._tell(tenant, unit, run, route, rule, finding, at_ms)
        self.set_trips(tenant, unit, route)

    def set_trips(self, tenant: Tenant, unit: Unit, route: Route) -> None:
        """Work out at which values the unit's rules want to be woken."""
        unit.clear_trips()
        if not unit.unit_id:
            return
        unit.stamp = self._state.policy.stamp
        for rule in self._trip_rules(unit, route):
            for counter, value in rule.trips(unit, route.cohort).items():
                unit.lower_trip(counter, value)
        if unit.deadline_ms < unit.due_ms:
            unit.due_ms = unit.deadline_ms
            tenant.wake_at(unit.due_ms, unit.kind, (unit.unit_id,))
        self._state.touch(unit)

    def _trip_rules(self, unit: Unit, route: Route) -> Iterable[UnitDetector[Any]]:
        """A session's or tree's runs may be under different rules, and none may undo the trips of another's."""
        if isinstance(unit, Run):
            return route.run_rules
        return [rule for rule in self._state.policy.unit_rules if rule.per == unit.unit_kind]

    def unpriced(self, tenant: Tenant, route: Route, call: LlmCall, at_ms: int) -> int:
        """Count a call nobody can price. Returns what the policy has it cost, else 0: told apart, never silent."""
        tokens = call.input_tokens + call.output_tokens
        assert route.totals is not None
        route.totals.unpriced_calls += 1
        route.totals.unpriced_tokens += tokens
        day_ms = at_ms - at_ms % DAY_MS
        known = call.model in tenant.unpriced or len(tenant.unpriced) < MOST_UNPRICED_MODELS
        model = call.model if known else OTHER_MODELS
        day = tenant.unpriced.setdefault(model, [day_ms, 0, 0])
        if day[0] < day_ms:
            day[:] = [day_ms, 0, 0]
        day_ms = day[0]
        day[1] += 1
        day[2] += tokens
        self._state.touch(tenant)
        for rule in self._state.policy.unpriced_rules:
            if (finding := rule.counted(model, day[1], day[2])) is not None:
                subject = Subject(
                    key=(model, day_ms),
                    scope={"tenant_id": tenant.tenant_id, "model": model},
                    owner=None,
                    window_start_ms=day_ms,
                    window_end_ms=day_ms + DAY_MS,
                )
                self._incidents.tell(tenant, rule, finding, subject, at_ms)
        price = self._state.policy.header.unpriced_usd_per_million_tokens
        return 0 if price is None else int(price * tokens * 1000)

    def _units(self, tenant: Tenant, run: Run) -> tuple[Unit, ...]:
        """All that a call counts in. A run is written with its message in any case; its session and tree are marked."""
        tracks = self._state.policy.tracks
        if tracks == RUNS_ONLY or not run.unit_id:
            return (run,)
        units: list[Unit] = [run]
        # A finished run may outlive its group; its late calls count in no other.
        if "session" in tracks and (session := tenant.sessions.get(run.session_id or "")) is not None:
            units.append(session)
            self._state.touch(session)
        if "run_tree" in tracks and (tree := tenant.trees.get(run.root_run_id)) is not None:
            units.append(tree)
            self._state.touch(tree)
        return tuple(units)

    def _is_premium(self, model: str) -> bool:
        premium = self._premium.get(model)
        if premium is None:  # a pattern is matched once per model
            if len(self._premium) > 10_000:
                self._premium.clear()
            premium = self._premium[model] = self._state.policy.is_premium(model)
        return premium

    def _tell(
        self, tenant: Tenant, unit: Unit, run: Run, route: Route, rule: Detector[Any], finding: Finding, at_ms: int
    ) -> None:
        scope = {"tenant_id": tenant.tenant_id}
        if isinstance(unit, Run):
            scope["workflow"] = route.workflow
        else:
            scope[unit.unit_kind] = unit.unit_id
        subject = Subject(
            key=(unit.unit_kind, unit.unit_id),
            scope=scope,
            owner=None if route.owner == UNATTRIBUTED else route.owner,
            run_id=unit.unit_id if isinstance(unit, Run) else None,
            run=run,
            unit_id=f"{unit.unit_kind}/{unit.unit_id}",
        )
        action = verdict(rule.settings.mode, finding, outcome=run.outcome if unit is run else None, late=False)

        def stop(origin: Origin) -> None:
            if action is None or (unit is run and run.state != "live"):
                return
            for target in self._targets(tenant, unit):
                spent_nanousd = _spent(tenant, target, unit)
                self._brakes.order(tenant, target, action, origin, at_ms, spent_nanousd=spent_nanousd)

        told = replace(finding, evidence={"cost_nanousd": unit.cost_nanousd, **finding.evidence})
        self._incidents.tell(tenant, rule, told, subject, at_ms, stop)

    def _targets(self, tenant: Tenant, unit: Unit) -> list[Target]:
        """Whom to command. A tree is one target; members that never named their root are told one by one."""
        targets = [Target(unit.unit_kind, unit.unit_id)]
        if isinstance(unit, Group) and unit.unit_kind == "run_tree":
            members = [tenant.run(run_id) for run_id in sorted(unit.members)]
            targets += [
                Target("run", member.unit_id)
                for member in members
                if member is not None and not member.declared_root and member.unit_id != unit.unit_id
            ]
        return targets


RUNS_ONLY = frozenset({"run"})


def _spent(tenant: Tenant, target: Target, unit: Unit) -> int:
    if target.type == "run" and target.id != unit.unit_id:
        member = tenant.run(target.id)
        return 0 if member is None else member.cost_nanousd
    return unit.cost_nanousd
