"""What runs, sessions and run trees use up: counted at every call, and judged by the rules that a count wakes."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

from models.attribution import Router
from models.commands.commands import Stop, spent_by
from models.commands.enforcement import Enforcement
from models.detectors.base import Detector, SequenceDetector, UnitDetector
from models.incidents.incident import Subject
from models.incidents.incidents import Incidents
from models.rules.finding import Finding
from models.runs.contexts import Contexts
from models.runs.escalations import EscalationWatch
from models.runs.group_failures import GroupFailures
from models.runs.groups import Groups
from models.state.partition import PartitionState
from models.state.tenant import Tenant
from models.state.units.call_history import CallHistory
from models.state.units.failing import FailingCall
from models.state.units.groups import Group
from models.state.units.route import Route
from models.state.units.runs import Run
from models.state.units.unit import MAX_NANOUSD, Unit, grant_key
from schemas.control import Target
from schemas.policy import Action
from schemas.usage import UNATTRIBUTED, LlmCall, ToolCall

MOST_NAMES: Final = 10_000


class UnitCounters:
    """The counters of a partition's units."""

    def __init__(
        self,
        state: PartitionState,
        router: Router,
        groups: Groups,
        incidents: Incidents,
        enforcement: Enforcement,
        contexts: Contexts,
        escalations: EscalationWatch,
    ) -> None:
        self._state = state
        self._router = router
        self._groups = groups
        self._incidents = incidents
        self._enforcement = enforcement
        self._contexts = contexts
        self.failures = GroupFailures(state, incidents)
        self._escalations = escalations
        self._premium: dict[str, bool] = {}
        self._tools: dict[str, tuple[bool, bool]] = {}
        """Tool -> whether its calls say that an agent is done, and whether they change something."""

    def policy_changed(self) -> None:
        """Forget what followed from the old policy."""
        self._premium.clear()
        self._tools.clear()

    def model_call(self, tenant: Tenant, run: Run, route: Route, call: LlmCall, cost_nanousd: int, at_ms: int) -> None:
        """Count a model call in its run, session and tree, and ask whoever is concerned."""
        premium = self._premium.get(call.model)
        if premium is None:
            premium = self._learn_premium(call.model)
        retry = call.attempt > 1
        stands_out = is_cut = False
        if run.unit_id:
            context = run.context
            agent = call.agent  # most of the time None, which is compared faster as an object
            if (
                context is None
                or call.model != context.model
                or (agent is not context.agent and agent != context.agent)
            ):
                context = run.turn_to(call, route.context_floors)
            if call.cache_read_tokens:
                context.cache_read_tokens += call.cache_read_tokens
            tokens = call.input_tokens
            if (
                context.tokens < tokens < context.input_trip
                and call.output_tokens < context.output_trip
                and not call.context_reload
            ):
                context.tokens = tokens
            else:
                is_cut = context.is_cut_by(call)
                stands_out = context.add(call, run.calls, run.tool_calls)
        run.input_tokens += call.input_tokens
        run.output_tokens += call.output_tokens
        for unit in self._units(tenant, run) if self._state.policy.tracks_groups else (run,):
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
                self.judge(tenant, unit, run, route, at_ms)
            if at_ms > unit.last_ms:
                unit.last_ms = at_ms
        if premium and route.escalation_rules and run.unit_id:
            self._escalations.premium_call(tenant, run, route, call, cost_nanousd, at_ms)
        if stands_out:
            for rule, finding in self._contexts.look(run, route, call, cost_nanousd):
                self._apply(tenant, run, run, route, rule, finding, at_ms)
        if route.watches_calls and run.unit_id and run.state == "live":
            agent = call.agent
            history = run.history if agent == run.agent else run.history_of(agent)
            if history.model(call, run.cost_nanousd):
                self._step(tenant, run, route, route.model_rules, history, call, at_ms)
            if is_cut:
                history.tools.context_cut()

    def tool_call(self, tenant: Tenant, run: Run, route: Route, call: ToolCall, cost_nanousd: int, at_ms: int) -> None:
        """Count a tool call in its run, session and tree, and ask whoever is concerned."""
        if cost_nanousd:
            run.leave_out(cost_nanousd)
        for unit in self._units(tenant, run) if self._state.policy.tracks_groups else (run,):
            unit.tool_calls += 1
            unit.cost_nanousd += cost_nanousd
            if (
                unit.tool_calls >= unit.tool_calls_trip
                or unit.cost_nanousd >= unit.cost_trip
                or at_ms >= unit.deadline_ms
            ):
                self.judge(tenant, unit, run, route, at_ms)
            if at_ms > unit.last_ms:
                unit.last_ms = at_ms
        if route.tool_rules and run.unit_id and run.state == "live":
            agent = call.agent
            history = run.history if agent == run.agent else run.history_of(agent)
            failed = call.status == "error"
            if failed and call.error_type is not None:
                failed = self._state.policy.is_failure(call.error_type)
            finishes, writes = self._tools.get(call.tool) or self._learn_tool(call.tool)
            if recurs := history.tool(call, failed, run.cost_nanousd, finishes, writes):
                self._step(tenant, run, route, route.tool_rules, history, call, at_ms)
            if failed:
                self._failed_again(tenant, run, route, call, history, at_ms)
            elif tenant.failing and call.status == "ok":
                name, writes = history.tools.newest, writes or call.writes
                self.failures.worked(tenant, run, call, name, writes=writes, made_before=recurs)

    def _step(
        self,
        tenant: Tenant,
        run: Run,
        route: Route,
        rules: Iterable[SequenceDetector[Any]],
        history: CallHistory,
        call: LlmCall | ToolCall,
        at_ms: int,
    ) -> None:
        for rule in rules:
            if (finding := rule.step(history, call)) is not None:
                if history is not run.history:
                    finding = replace(finding, evidence={**finding.evidence, "agent": call.agent})
                self._apply(tenant, run, run, route, rule, finding, at_ms)

    def _failed_again(
        self, tenant: Tenant, run: Run, route: Route, call: ToolCall, history: CallHistory, at_ms: int
    ) -> None:
        """A call has failed: maybe it has in the other runs of its session or tree as well, with the run's other
        agents, or before something was changed.
        """
        for failing in self.failures.failed(tenant, run, call, history, at_ms):
            for rule in route.tool_rules:
                if (finding := rule.keeps_failing(failing)) is not None:
                    self._apply_to_group(tenant, run, route, rule, failing, finding, at_ms)

    def _apply_to_group(
        self,
        tenant: Tenant,
        run: Run,
        route: Route,
        rule: SequenceDetector[Any],
        failing: FailingCall,
        finding: Finding,
        at_ms: int,
    ) -> None:
        group = failing.group

        def targets(is_news: bool, action: Action) -> Iterable[Stop]:
            del is_news, action  # compiled code knows no lambda that takes whatever comes
            return [Stop(group, failing.spent_nanousd)]

        subject = replace(
            self._subject(tenant, run, run, route),
            key=(group.type, group.id),
            unit_key=f"{group.type}/{group.id}",
            ends_ms=self._state.now_ms + finding.lasts_ms,
        )
        if group.type != "run":
            subject = replace(subject, scope={"tenant_id": tenant.tenant_id, group.type: group.id}, run_id=None)
        self._enforcement.apply(tenant, rule, finding, subject, at_ms, targets)

    def judge(self, tenant: Tenant, unit: Unit, run: Run, route: Route, at_ms: int) -> None:
        """Ask a unit's rules what is true of it, and set its next trips."""
        if not unit.unit_id:
            return
        unit.now_ms = max(unit.now_ms, unit.last_ms, at_ms)  # a late call takes no time back
        unit.cost_nanousd = min(unit.cost_nanousd, MAX_NANOUSD)
        for rule in route.unit_rules[unit.unit_kind]:
            for finding in rule.judge(unit, route.cohort):
                self._apply(tenant, unit, run, route, rule, finding, at_ms)
        self.set_trips(tenant, unit, route)

    def findings(self, tenant: Tenant, unit: Run | Group) -> list[tuple[UnitDetector[Any], Finding]]:
        """What the rules about a unit find now, noted nowhere."""
        rules: Iterable[UnitDetector[Any]]
        if isinstance(unit, Run):
            route = self._router.route_of(tenant, unit)
            rules, cohort = route.unit_rules["run"], tenant.cohorts.get(route.workflow)
        else:
            rules = [rule for rule, _ in self._state.policy.unit_rules if rule.per == unit.unit_kind]
            cohort = tenant.cohorts.get(unit.workflow)
        unit.now_ms = max(unit.now_ms, unit.last_ms, self._state.now_ms)
        return [(rule, finding) for rule in rules for finding in rule.judge(unit, cohort)]

    def assume(self, tenant: Tenant, unit: Unit, run: Run, route: Route, at_ms: int) -> None:
        """After a resume: what is reached below the new allowance counts as published.

        Where the allowance is used up already, the unit's next call has it judged.
        """
        unit.now_ms = max(unit.now_ms, unit.last_ms, at_ms)
        used_up = False
        for rule in route.unit_rules[unit.unit_kind]:
            if rule.follows_limits:
                for finding in rule.judge(unit, route.cohort):
                    self._incidents.assume(tenant, rule, finding, self._subject(tenant, unit, run, route))
                    used_up |= finding.level >= 1
        self.set_trips(tenant, unit, route)
        if used_up:
            unit.wake_at_next_call()

    def set_trips(self, tenant: Tenant, unit: Unit, route: Route) -> None:
        """Work out at which values the unit's rules want to be woken."""
        unit.clear_trips()
        if not unit.unit_id:
            return
        unit.stamp = self._state.policy.stamp
        for rule in self._trip_rules(unit, route):
            for counter, used in rule.trips(unit, route.cohort).items():
                unit.lower_trip(counter, used)
        if unit.deadline_ms < unit.due_ms:
            unit.due_ms = unit.deadline_ms
            tenant.wake_at(unit.due_ms, unit.kind, (unit.unit_id,))
        self._state.touch(unit)

    def _trip_rules(self, unit: Unit, route: Route) -> Iterable[UnitDetector[Any]]:
        """A session's or tree's runs may be under different rules, and none may undo the trips of another's."""
        if isinstance(unit, Run):
            return route.unit_rules["run"]
        return [rule for rule, _ in self._state.policy.unit_rules if rule.per == unit.unit_kind]

    def _units(self, tenant: Tenant, run: Run) -> list[Unit]:
        """All that a call counts in. A run is written with its message in any case; its session and tree are marked."""
        units: list[Unit] = [run]
        if run.unit_id:
            for group in self._groups.of(tenant, run):
                if not group.dirty:
                    self._state.touch(group)
                units.append(group)
        return units

    def _learn_tool(self, tool: str) -> tuple[bool, bool]:
        """Patterns are matched once per tool."""
        if len(self._tools) > MOST_NAMES:
            self._tools.clear()
        policy = self._state.policy
        learned = self._tools[tool] = (policy.finishes(tool), policy.writes(tool))
        return learned

    def _learn_premium(self, model: str) -> bool:
        """A pattern is matched once per model."""
        if len(self._premium) > MOST_NAMES:
            self._premium.clear()
        premium = self._premium[model] = self._state.policy.is_premium(model)
        return premium

    def _apply(
        self, tenant: Tenant, unit: Unit, run: Run, route: Route, rule: Detector[Any], finding: Finding, at_ms: int
    ) -> None:
        if finding.level <= 0 and unit.unit_key not in tenant.unit_incidents:
            return  # nothing was ever said of the unit that could be over now
        if finding.level > 0 and finding.unit == "ms" and self._is_stopped(tenant, unit):
            return  # time goes on for what is stopped as well; that is no news
        if finding.level > 0:
            finding = replace(finding, evidence={"cost_nanousd": unit.cost_nanousd, **finding.evidence})
        subject = self._subject(tenant, unit, run, route)
        if finding.lasts_ms:
            subject = replace(subject, ends_ms=self._state.now_ms + finding.lasts_ms)
        self._enforcement.apply(tenant, rule, finding, subject, at_ms, self._targets(tenant, unit, run, rule))

    def _is_stopped(self, tenant: Tenant, unit: Unit) -> bool:
        """Whether a kill or a pause stands on the unit."""
        run_id = unit.unit_id if isinstance(unit, Run) else None
        action = tenant.action_on(run_id, unit.unit_key, self._state.now_ms)
        return action in ("kill", "pause")

    def _subject(self, tenant: Tenant, unit: Unit, run: Run, route: Route) -> Subject:
        """Whom a finding is about. What a tool call does not say of itself is what the run's last model call said."""
        scope = {"tenant_id": tenant.tenant_id}
        known = run.attribution() if UNATTRIBUTED in (route.workflow, route.owner) else {}
        owner = known.get("owner") if route.owner == UNATTRIBUTED else route.owner
        if isinstance(unit, Run):
            workflow = route.workflow
            scope["workflow"] = known.get("workflow", UNATTRIBUTED) if workflow == UNATTRIBUTED else workflow
        else:
            scope[unit.unit_kind] = unit.unit_id
        return Subject(
            key=(unit.unit_kind, unit.unit_id),
            scope=scope,
            owner=owner,
            run_id=unit.unit_id if isinstance(unit, Run) else None,
            run=run,
            unit_key=unit.unit_key,
        )

    def _targets(
        self, tenant: Tenant, unit: Unit, run: Run, rule: Detector[Any]
    ) -> Callable[[bool, Action], Iterable[Stop]]:
        """Whom to command. A tree is one target; members that never named their root are commanded one by one."""

        def targets(is_news: bool, _: Action) -> Iterable[Stop]:
            grant = unit.grant(grant_key(rule.rule, ""))
            ended = isinstance(unit, Run) and unit.state != "live"
            if ended or (grant is not None and not rule.follows_limits and grant.holds(unit, self._state.now_ms)):
                return
            yield Stop(Target(unit.unit_kind, unit.unit_id), unit.cost_nanousd)
            if isinstance(unit, Group) and unit.unit_kind == "run_tree":
                for member in tenant.live() if is_news else [run]:
                    if member.root_run_id == unit.unit_id != member.unit_id and not member.declared_root:
                        target = Target("run", member.unit_id)
                        yield Stop(target, spent_by(tenant, target))

        return targets
