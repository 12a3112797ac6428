"""What operators order about runs: kill, and resume with its terms."""

from typing import Final

from models.attribution import Router
from models.commands.commands import CLOCKS_DIFFER_MS, Commands, Stop
from models.commands.standing import Origin
from models.detectors.base import SequenceDetector, UnitDetector
from models.incidents.incidents import Incidents
from models.runs.counters import UnitCounters
from models.runs.registry import RunRegistry
from models.spend.ledger import SpendLedger
from models.state.partition import PartitionState
from models.state.tenant import Tenant
from models.state.units.groups import Group
from models.state.units.runs import Run
from models.state.units.unit import NO_TRIP, Counter, Grant, grant_key
from schemas.control import Target
from schemas.operator import Kill, Resume

OPERATOR: Final = "operator"
"""The rule that a command names which a person has ordered."""
COUNTERS: tuple[Counter, ...] = ("cost_nanousd", "calls", "tool_calls", "retries", "premium_calls", "duration_ms")
WIDE: Final = ("workflow", "tenant")


class Orders:
    """Operators' orders to runs, sessions, run trees, workflows and tenants."""

    def __init__(
        self,
        state: PartitionState,
        router: Router,
        incidents: Incidents,
        commands: Commands,
        ledger: SpendLedger,
        counters: UnitCounters,
        runs: RunRegistry,
    ) -> None:
        self._state = state
        self._router = router
        self._incidents = incidents
        self._commands = commands
        self._ledger = ledger
        self._counters = counters
        self._runs = runs

    def kill(self, tenant: Tenant, order: Kill, at_ms: int) -> None:
        """Kill a target, and where it is a workflow or a tenant every run of it that lives; no limit holds that back.

        An old order, read again after somebody has lifted the kill, does nothing.
        """
        command = tenant.commands.get((order.target.type, order.target.id))
        if command is not None and command.state == "lifted" and order.ts_ms + CLOCKS_DIFFER_MS < command.issued_ms:
            return
        origin = Origin(order.message_id, OPERATOR, f"{order.who}: {order.why}", None, "operator")
        targets = [order.target]
        if order.target.type in WIDE:
            targets += [Target("run", run.unit_id) for run in self._runs.runs_of(tenant, order.target)]
        elif order.target.type == "run_tree":
            targets += [Target("run", run.unit_id) for run in self._unaware(tenant, order.target)]
        for target in targets:
            unit = self._unit(tenant, target)
            stop = Stop(target, 0 if unit is None else unit.cost_nanousd, order.until_ms or 0)
            self._commands.want(tenant, stop, "kill", origin, at_ms)

    def resume(self, tenant: Tenant, order: Resume, at_ms: int) -> None:
        """Let a target go on, on terms. Where no command stands or is held back there is nothing to lift.

        Nor does an old order, read again, lift a command that was given after it. Without terms one more allowance of
        the limit that stopped it is granted; loop counts start anew in any case.
        """
        target = order.target
        why = f"{order.who}: {order.why}"
        origin = self._release(tenant, order, why, at_ms)
        if origin is None:
            return
        if target.type in WIDE or target.type == "run_tree":
            self._resume_members(tenant, target, origin, why, at_ms)
        if target.type == "scope":
            self._ledger.resume_scope(tenant, target.id, order.until_ms)
            return
        if target.type in WIDE:
            return
        self._counters.failures.restart(tenant, target)
        evidence = {"released": why, "resumed_by": order.who}
        unit = self._unit(tenant, target)
        if unit is None:
            self._incidents.release_unit(tenant, f"{target.type}/{target.id}", at_ms, evidence)
            return
        self._grant(tenant, unit, origin, order)
        self._incidents.release_unit(tenant, unit.unit_key, at_ms, evidence)
        for run in self._runs.runs_of(tenant, target):
            for history in run.histories():
                history.restart()
            self._state.touch(run)
            route = self._router.route_of(tenant, run)
            self._counters.assume(tenant, unit, run, route, max(at_ms, unit.last_ms))
            self._ledger.exhausted_by(tenant, run, at_ms)

    def _release(self, tenant: Tenant, order: Resume, why: str, at_ms: int) -> Origin | None:
        """End what stands or is held back for a target. Why it was given; None if there is nothing to end."""
        key = (order.target.type, order.target.id)
        given_by_ms = order.ts_ms + CLOCKS_DIFFER_MS
        command, held = tenant.commands.get(key), tenant.held.get(key)
        origin: Origin | None = None
        if held is not None and held.since_ms <= given_by_ms:
            origin = held.origin
            self._commands.drop_held(tenant, key)
        if command is not None and command.issued_ms <= given_by_ms:
            stood_for = command.origin
            if self._commands.lift(tenant, command, why, at_ms, until_ms=order.until_ms or 0):
                self._commands.answered(tenant, command, at_ms, {"released": why})
                return stood_for
        return origin

    def _resume_members(self, tenant: Tenant, target: Target, origin: Origin, why: str, at_ms: int) -> None:
        """Let the runs go on that were killed with their workflow, tenant or tree."""
        for key in sorted(tenant.commands):
            command = tenant.commands[key]
            if (
                key != (target.type, target.id)
                and command.origin.incident_id == origin.incident_id
                and command.action == "kill"
                and self._commands.lift(tenant, command, why, at_ms)
            ):
                self._commands.answered(tenant, command, at_ms, {"released": why})

    def _unaware(self, tenant: Tenant, tree: Target) -> list[Run]:
        """The runs of a tree whose guards don't know that they belong to it, because they never named its root."""
        return [run for run in self._runs.runs_of(tenant, tree) if run.unit_id != tree.id and not run.declared_root]

    def _grant(self, tenant: Tenant, unit: Run | Group, origin: Origin, order: Resume) -> None:
        """Allow the unit more than what stopped it, rule by rule that is exceeded."""
        for rule, aspect, limit in self._exceeded(tenant, unit, origin):
            if order.limit_nanousd is None and order.until_ms is None and self._is_loop(rule):
                continue  # its counts start anew; it has no amount of which more could be allowed
            counter: Counter = aspect if aspect in COUNTERS else "cost_nanousd"
            up_to = NO_TRIP
            if order.limit_nanousd is not None:
                counter, up_to = "cost_nanousd", order.limit_nanousd
            elif order.until_ms is None:
                up_to = unit.total(counter, self._state.now_ms) + limit
            unit.allow(grant_key(rule, aspect), Grant(counter, up_to, order.until_ms or 0, order.who))
        self._state.touch(unit)

    def _exceeded(self, tenant: Tenant, unit: Run | Group, origin: Origin) -> list[tuple[str, str, int]]:
        """Rule, aspect and limit of all that the unit could be stopped for: what rules about it find now, and others'
        incidents, such as a loop's or a budget's.
        """
        found = [
            (rule.rule, finding.aspect, int(finding.evidence.get("rule_limit", finding.limit or 0)))
            for rule, finding in self._counters.findings(tenant, unit)
            if finding.level >= 1
        ]
        rules = self._state.policy.rules
        ids = set(tenant.unit_incidents.get(unit.unit_key, ())) | {origin.incident_id}
        for incident_id in sorted(ids):
            incident = tenant.incidents.get(incident_id)
            if incident is None or incident.level < 1 or isinstance(rules.get(incident.rule), UnitDetector):
                continue
            found.append((incident.rule, "", int(incident.limit or 0)))
        return found

    def _is_loop(self, rule: str) -> bool:
        return isinstance(self._state.policy.rules.get(rule), SequenceDetector)

    def _unit(self, tenant: Tenant, target: Target) -> Run | Group | None:
        """The unit of a target, woken if it sleeps."""
        if target.type == "run":
            runs = self._runs.runs_of(tenant, target)
            return runs[0] if runs else None
        return self._runs.group(tenant, target)
