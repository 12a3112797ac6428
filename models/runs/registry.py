"""A run from its first message over its sleep to its being forgotten."""

from typing import Any, Final

from models.attribution import Router
from models.commands.commands import Commands, Stop, stop_evidence
from models.incidents.incident import tenant_in_hour
from models.incidents.incidents import Incidents
from models.rules.service_rules import LIVE_RUNS
from models.runs.counters import UnitCounters
from models.runs.groups import Groups
from models.runs.memory import Memory
from models.runs.records import AT_ONCE, RunRecords
from models.runs.results import ResultBooks
from models.runs.workflows import Workflows
from models.spend.hourly_totals import HourlyTotals
from models.spend.ledger import SpendLedger
from models.state.partition import PartitionState
from models.state.spend.breakdown import NO_PORTION
from models.state.tenant import Tenant
from models.state.units.groups import Group
from models.state.units.route import Route
from models.state.units.runs import NO_CALL, NO_ROUTE_KEY, Run, StopRule, shared
from models.state.units.unit import Unit, UnitKind
from schemas.control import Target
from schemas.duration import MINUTE_MS
from schemas.usage import CommandAck, LlmCall, Outcome, RunFinished, RunStarted, ToolCall, UsageMessage

IDLE: Final = "idle"
"""Status of a run that has been silent for long and is taken for ended, at its last call."""
ACCEPTING: Final = ("accepted", "edited")
"""Outcomes that renew the allowance of what limits a run, its session and its tree."""


class RunRegistry:
    """The runs of a partition."""

    def __init__(
        self,
        state: PartitionState,
        router: Router,
        totals: HourlyTotals,
        incidents: Incidents,
        commands: Commands,
        ledger: SpendLedger,
        groups: Groups,
        counters: UnitCounters,
        memory: Memory,
        workflows: Workflows,
        results: ResultBooks,
        records: RunRecords,
    ) -> None:
        self._state = state
        self._router = router
        self._totals = totals
        self._incidents = incidents
        self._commands = commands
        self._ledger = ledger
        self._groups = groups
        self._counters = counters
        self._memory = memory
        self._workflows = workflows
        self._results = results
        self._records = records

    def policy_changed(self, tenant: Tenant, tracked: frozenset[UnitKind] | None, *, limits_changed: bool) -> None:
        """Other rules apply. Kinds of group that were not `tracked` so far begin with what is known of their runs.

        `tracked` is None where nobody can say what the policy so far was: kinds that have groups were tracked. Where
        rules about runs, sessions or trees have changed, all that is live is judged by them at once.
        """
        for run in tenant.runs.values():
            if isinstance(run, Run):
                run.route = None
        tracks = self._state.policy.tracks
        if tracked is None:
            tracked = self._groups.kinds(tenant)
        for kind in sorted(tracked - tracks - {"run"}):
            self._groups.untrack(tenant, kind)
        if new := sorted(tracks - tracked - {"run"}):
            known = self._memory.all_runs(tenant)
            for kind in new:
                self._groups.track(tenant, kind, known)
        if limits_changed:
            self._judge_all(tenant)

    def run(self, tenant: Tenant, message: UsageMessage, at_ms: int) -> Run:
        """The run of a message. The first message of an unknown run opens it, and a sleeping one wakes."""
        run = tenant.runs.get(message.run_id)
        if not isinstance(run, Run):
            run = tenant.run(message.run_id) or self._wake(tenant, message.run_id) or self._open(tenant, message, at_ms)
        run.clock_ms = tenant.clock_ms
        if run.state != "live" and isinstance(message, LlmCall | ToolCall | RunStarted):
            self._results.unbook(tenant, run)
            if at_ms > run.ended_ms:
                self._go_on(tenant, run)
        if message.session_id is not None and run.session_id is None and run.unit_id:
            self._groups.join_session(tenant, run, message.session_id, at_ms)
        if (
            (message.root_run_id is not None or message.parent_run_id is not None)
            and not run.declared_root
            and run.unit_id
            and self._groups.join_tree(tenant, run, message, at_ms)
        ):
            self._obey_wider(tenant, run, None, at_ms)
        return run

    def route(self, tenant: Tenant, run: Run, message: UsageMessage) -> Route:
        """The route of a message; a run's rules and trips follow that of its latest model call."""
        key = self._router.key_of(message)
        if run.route is None and run.stamp == self._state.policy.stamp:
            run.route = self._router.route(tenant, run.attributes, run.route_key)
        if run.route is not None and run.stamp and key == run.route_key:
            return run.route
        if run.route is not None and key[1] is NO_CALL and key[0] == run.route_key[0]:
            route = self._router.without_call(tenant, run, run.route, key)
        else:
            route = self._router.route(tenant, run.attributes, key)
        if run.route is None or not run.stamp or isinstance(message, LlmCall | RunStarted):
            key = (run.attributes if key[0] == run.attributes else shared(key[0]), key[1])
            previous, run.route, run.route_key = run.route, route, key
            run.portion = NO_PORTION
            if (
                previous is None
                or not run.stamp
                or previous.unit_rules["run"] != route.unit_rules["run"]
                or previous.cohort is not route.cohort
            ):
                self._set_trips(tenant, run, route)
                self._obey_wider(tenant, run, route, self._state.now_ms)  # it woke, goes on, or says where it belongs
        return route

    def started(self, tenant: Tenant, run: Run, message: RunStarted, at_ms: int) -> None:
        """A run introduces itself: what it says of itself holds for its later messages."""
        if not run.unit_id:
            return
        attributes, _ = self._router.key_of(message)
        run.attributes = shared(attributes) if any(attributes) else ()
        run.route_key = NO_ROUTE_KEY
        run.portion = NO_PORTION
        run.record_ms = AT_ONCE
        own = StopRule(message.cap_nanousd, message.max_retries, message.max_tool_calls, message.max_duration_s)
        if own.limits():
            run.stop_rule = own if run.stop_rule is None else run.stop_rule.stricter(own)
        run.expected_route = message.expected_route or run.expected_route
        run.expected_outcome = message.expected_outcome or run.expected_outcome
        route = run.route = self._router.route(tenant, run.attributes, run.route_key)
        self._set_group_trips(tenant, run, route)
        self._counters.judge(tenant, run, run, route, at_ms)
        self._state.touch(run)
        self._obey_wider(tenant, run, route, at_ms)
        self._ledger.admit(tenant, run, route, at_ms)

    def finished(self, tenant: Tenant, run: Run, status: str, at_ms: int) -> None:
        """A run has ended: its cost becomes part of what is usual, and its incidents are over."""
        if run.state != "live":
            return
        route = self._router.route_of(tenant, run)
        if not run.counted:
            self._totals.of(tenant, route, at_ms).runs_finished += 1
        if not run.unit_id:
            return
        run.state, run.status = "finished", status
        run.record_ms = AT_ONCE
        run.ended_ms = run.last_ms if status == IDLE else at_ms
        tenant.live_runs -= 1
        stopped = [command for command in tenant.commands_on(run) if command.stands(self._state.now_ms)]
        if not run.counted and run.cost_nanousd and status != "killed" and not stopped:
            self._workflows.run_finished(tenant, run, route, at_ms)
        run.counted = True
        self._results.book(tenant, run, route)
        evidence: dict[str, Any] = {"run_status": status, "cost_nanousd": run.cost_nanousd}
        for command in stopped:
            evidence |= stop_evidence(tenant, command)
        self._target_ended(tenant, run, at_ms)
        self._incidents.resolve_unit(tenant, run.unit_key, at_ms, evidence)
        self._arm(tenant, run)

    def outcome(self, tenant: Tenant, run: Run, message: Outcome, at_ms: int) -> None:
        """What became of a run's output: it counts in the run's workflow, unless it names another. An accepted one
        renews the allowance of the run, its session and its tree.
        """
        route = self._router.route_of(tenant, run)
        own = self._router.key_of(message)
        totals = self._totals.of(
            tenant, self._router.route(tenant, run.attributes, own) if any(own[0]) else route, at_ms
        )
        setattr(totals, message.outcome, getattr(totals, message.outcome) + 1)
        if not run.unit_id:
            return
        was_accepted = run.outcome in ACCEPTING
        self._results.unbook(tenant, run)
        run.outcome = message.outcome
        run.record_ms = AT_ONCE
        self._results.book(tenant, run, route)
        self._state.touch(run)
        if message.outcome in ACCEPTING:
            if not was_accepted:
                self._workflows.output_accepted(route, at_ms)
            for unit in (run, *self._groups.of(tenant, run)):
                unit.renew(at_ms)
                self._counters.judge(tenant, unit, run, route, at_ms)
            self._ledger.accepted(tenant, route)

    def run_due(self, tenant: Tenant, run_id: str, now_ms: int) -> None:
        """A run's time has come: a deadline by its own clock, or too long without a message."""
        run = tenant.run(run_id)
        if run is None or run.due_ms != now_ms:
            return
        own_ms = now_ms - run.late_ms()
        if run.state == "live" and run.deadline_ms <= own_ms:
            self._counters.judge(tenant, run, run, self._router.route_of(tenant, run), own_ms)
        self._records.due(tenant, run, now_ms)
        if run.clock_ms + self._awake_ms(run) > now_ms:
            self._arm(tenant, run)
            return
        self.finished(tenant, run, IDLE, now_ms)
        self._results.book(tenant, run, self._router.route_of(tenant, run))  # calls may have come after its end
        # A call that came after the end may have opened incidents again.
        self._target_ended(tenant, run, now_ms)
        self._incidents.resolve_unit(tenant, run.unit_key, now_ms, {"cost_nanousd": run.cost_nanousd})
        if run.record_ms:
            self._records.write(tenant, run)
        self._memory.sleep(tenant, run, now_ms)

    def group_due(self, tenant: Tenant, group: Group | None, now_ms: int) -> None:
        """A session's or tree's time has come: a deadline, or too long without a call."""
        if group is None or group.due_ms != now_ms:
            return
        if group.deadline_ms <= now_ms and (member := self._member_of(tenant, group)) is not None:
            own_ms = now_ms - max(0, member.clock_ms - group.last_ms)  # as with runs
            if group.deadline_ms <= own_ms:
                self._counters.judge(tenant, group, member, self._router.route_of(tenant, member), own_ms)
        idle_ms = max(group.last_ms, group.started_ms) + self._state.policy.header.idle_run_minutes * MINUTE_MS
        if idle_ms > now_ms:
            group.due_ms = idle_ms if group.deadline_ms <= now_ms else min(idle_ms, group.deadline_ms)
            tenant.wake_at(group.due_ms, group.kind, (group.unit_id,))
            self._state.touch(group)
            return
        evidence = {"cost_nanousd": group.cost_nanousd}
        self._incidents.resolve_unit(tenant, group.unit_key, now_ms, evidence)
        self._commands.target_ended(tenant, Target(group.unit_kind, group.unit_id), now_ms)
        self._memory.sleep_group(tenant, group, now_ms)

    def judge(self, tenant: Tenant, target: Target, now_ms: int) -> None:
        """Ask again what should stand for a target whose command has run out."""
        if target.type == "scope":
            self._ledger.scope_reopened(tenant, target.id, now_ms)
            return
        unit = tenant.unit(target.type, target.id)
        run = unit if isinstance(unit, Run) else self._member_of(tenant, unit)
        if unit is None or run is None or run.state != "live":
            return
        self._counters.judge(tenant, unit, run, self._router.route_of(tenant, run), now_ms)
        self._ledger.exhausted_by(tenant, run, now_ms)

    def runs_of(self, tenant: Tenant, target: Target) -> list[Run]:
        """The live runs that a target names."""
        match target.type:
            case "run":
                run = tenant.run(target.id) or self._wake(tenant, target.id)
                return [] if run is None else [run]
            case "session" | "run_tree":
                return tenant.live_in(target)
            case "workflow":
                return [run for run in tenant.live() if self._router.route_of(tenant, run).workflow == target.id]
            case _:
                return tenant.live()

    def group(self, tenant: Tenant, target: Target) -> Group | None:
        """The session or run tree that a target names, woken if it sleeps."""
        return self._groups.named(tenant, target)

    def _target_ended(self, tenant: Tenant, run: Run, at_ms: int) -> None:
        """A run is over, and with their last live run the session and the tree that no rule watches: no timer of their
        own would find that out.
        """
        self._commands.target_ended(tenant, Target("run", run.unit_id), at_ms)
        groups = [Target("run_tree", run.root_run_id)]
        if run.session_id is not None:
            groups.append(Target("session", run.session_id))
        for target in groups:
            is_commanded = (target.type, target.id) in tenant.commands
            if is_commanded and target.type not in self._state.policy.tracks and not tenant.live_in(target):
                self._commands.target_ended(tenant, target, at_ms)

    def _member_of(self, tenant: Tenant, group: Group | None) -> Run | None:
        if group is None:
            return None
        return next(iter(self.runs_of(tenant, Target(group.unit_kind, group.unit_id))), None)

    def _judge_all(self, tenant: Tenant) -> None:
        """Raised or lowered limits are judged at once, not at the next call."""
        for run in tenant.live():
            self._state.breathe()
            route = run.route = self._router.route_of(tenant, run)
            for unit in (run, *self._groups.of(tenant, run)):
                self._counters.judge(tenant, unit, run, route, self._state.now_ms)

    def _set_trips(self, tenant: Tenant, run: Run, route: Route) -> None:
        """Other rules, or others' counts, hold from here on: what is reached by them already is judged at once."""
        for context in run.contexts():
            context.clear_trips()
        self._set_unit_trips(tenant, run, run, route)
        self._set_group_trips(tenant, run, route)

    def _set_group_trips(self, tenant: Tenant, run: Run, route: Route) -> None:
        for group in self._groups.of(tenant, run):
            group.workflow = group.workflow or route.workflow
            self._set_unit_trips(tenant, group, run, route)

    def _set_unit_trips(self, tenant: Tenant, unit: Unit, run: Run, route: Route) -> None:
        if unit.calls or unit.tool_calls:
            self._counters.judge(tenant, unit, run, route, unit.last_ms)
        else:
            self._counters.set_trips(tenant, unit, route)

    def _open(self, tenant: Tenant, message: UsageMessage, at_ms: int) -> Run:
        if isinstance(message, RunFinished | Outcome | CommandAck):
            return Run(tenant.tenant_id, "", at_ms)  # about a run long gone: counted, not remembered
        if tenant.is_overflow or len(tenant.runs) >= self._state.policy.header.max_live_runs_per_tenant:
            return self._overflow(tenant, at_ms)
        run = Run(tenant.tenant_id, message.run_id, at_ms)
        run.clock_ms = tenant.clock_ms
        tenant.runs[message.run_id] = run
        tenant.live_runs += 1
        self._arm(tenant, run)
        self._groups.open_tree(tenant, run, at_ms)
        # The trips are set by whoever takes in the message.
        route = self._router.route(tenant, run.attributes, self._router.key_of(message))
        self._totals.of(tenant, route, at_ms).runs_started += 1
        return run

    def _wake(self, tenant: Tenant, run_id: str) -> Run | None:
        run = self._memory.wake(tenant, run_id)
        if run is not None:
            self._arm(tenant, run)
        return run

    def _go_on(self, tenant: Tenant, run: Run) -> None:
        """A run that had ended makes calls: it lives, with all that it had used up."""
        run.state, run.status = "live", None
        run.record_ms = AT_ONCE
        tenant.live_runs += 1
        run.forget_finishes()
        run.stamp = 0
        self._arm(tenant, run)

    def _obey_wider(self, tenant: Tenant, run: Run, route: Route | None, at_ms: int) -> None:
        """A run turns out to belong to what was killed as a whole. Its guard may not know that, so that it is told."""
        if not tenant.commands or run.state != "live":
            return
        now_ms = self._state.now_ms
        wider = [tenant.commands.get(("tenant", tenant.tenant_id))]
        if not run.declared_root and run.root_run_id != run.unit_id:
            wider.append(tenant.commands.get(("run_tree", run.root_run_id)))
        if route is not None:
            wider.append(tenant.commands.get(("workflow", route.workflow)))
        for command in wider:
            if command is not None and command.stands(now_ms):
                expires_ms = 0 if command.is_sticky else command.expires_ms
                stop = Stop(Target("run", run.unit_id), run.cost_nanousd, expires_ms)
                self._commands.want(tenant, stop, command.action, command.origin, at_ms)

    def _overflow(self, tenant: Tenant, at_ms: int) -> Run:
        """Beyond the limit of live runs: spend still counts in every scope, single runs are no longer watched."""
        if tenant.overflow is None:
            tenant.overflow = Run(tenant.tenant_id, "", at_ms)
        tenant.overflow.route = None
        if tenant.is_overflow:
            return tenant.overflow  # somebody has been told of all these tenants
        limit = self._state.policy.header.max_live_runs_per_tenant
        finding = LIVE_RUNS.finding(tenant.tenant_id, len(tenant.runs), limit)
        subject = tenant_in_hour(tenant.tenant_id, at_ms)
        self._incidents.note_and_publish(tenant, LIVE_RUNS, finding, subject, at_ms)
        return tenant.overflow

    def _arm(self, tenant: Tenant, run: Run) -> None:
        run.due_ms = run.clock_ms + self._awake_ms(run)
        if run.state == "live":
            run.due_ms = min(run.due_ms, run.deadline_ms + run.late_ms())
        if run.record_ms > 0:
            run.due_ms = min(run.due_ms, run.record_due_ms())
        tenant.wake_at(run.due_ms, "run", (run.unit_id,))
        self._state.touch(run)

    def _awake_ms(self, run: Run) -> int:
        """How long the run stays awake after its last message."""
        header = self._state.policy.header
        return (header.idle_run_minutes if run.state == "live" else header.finished_run_minutes) * MINUTE_MS
