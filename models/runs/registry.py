"""A run from its first message to its tombstone, and the sessions and trees it belongs to."""

from typing import Any, TypeVar

from models.commands.commands import Brakes
from models.incidents.incident import Subject
from models.incidents.incidents import Incidents
from models.rules.finding import Finding
from models.rules.service_rules import LIVE_RUNS
from models.runs.watch import Watch
from models.spend.ledger import Ledger, Route
from models.state.partition import PartitionState
from models.state.runs import NO_ROUTE_KEY, Group, RouteKey, Run, RunTree, Session, StopRule, UnitKind
from models.state.tenant import Tenant
from schemas.usage import ATTRIBUTION, CommandAck, LlmCall, Outcome, RunFinished, RunStarted, ToolCall, UsageMessage

MINUTE_MS = 60_000
WEIGHTY_MINUTES = 7 * 24 * 60
"""How long a run that was stopped, or told of by a limit, is remembered without a message: silence lifts no limit."""
HOUR_MS = 60 * MINUTE_MS
G = TypeVar("G", bound=Group)


class Lifecycle:
    """The runs of a partition."""

    def __init__(
        self, state: PartitionState, incidents: Incidents, brakes: Brakes, ledger: Ledger, watch: Watch
    ) -> None:
        self._state = state
        self._incidents = incidents
        self._brakes = brakes
        self._ledger = ledger
        self._watch = watch

    def policy_changed(self, tracked: frozenset[UnitKind]) -> None:
        """Other rules apply: every run's route and trips are worked out anew at its next message.

        Sessions and trees that were not `tracked` so far begin with what is known of their runs.
        """
        self._watch.policy_changed()
        new = self._state.policy.tracks - tracked
        for _, tenant in sorted(self._state.tenants.items()):
            for run in tenant.runs.values():
                if isinstance(run, Run):
                    run.route = None
            if "session" in new:
                self._regroup(tenant, tenant.sessions, Session)
            if "run_tree" in new:
                self._regroup(tenant, tenant.trees, RunTree)

    def run(self, tenant: Tenant, message: UsageMessage, at_ms: int) -> Run:
        """The run of a message. The first message of an unknown run opens it."""
        run = tenant.runs.get(message.run_id)
        if not isinstance(run, Run):
            run = tenant.run(message.run_id) or self._open(tenant, message, at_ms)
        run.clock_ms = tenant.clock_ms
        if run.state == "idle" and isinstance(message, LlmCall | ToolCall | RunStarted):
            self._revive(tenant, run, at_ms)
        if message.session_id is not None and run.session_id is None:
            self._join_session(tenant, run, message.session_id, at_ms)
        if not run.declared_root and (message.root_run_id is not None or message.parent_run_id is not None):
            self._join_tree(tenant, run, message, at_ms)
        return run

    def route(self, tenant: Tenant, run: Run, message: UsageMessage) -> Route:
        """The route of a message; a run's rules and trips follow that of its latest model call."""
        key = self._route_key(message)
        if run.route is None and run.stamp == self._state.policy.stamp:
            run.route = self._ledger.route(tenant, run.attributes, run.route_key)
        if run.route is not None and key == run.route_key:
            known: Route = run.route
            return known
        route = self._ledger.route(tenant, run.attributes, key)
        if run.route is None or isinstance(message, LlmCall | RunStarted):
            previous, run.route, run.route_key = run.route, route, key
            if previous is None or previous.run_rules != route.run_rules or previous.cohort is not route.cohort:
                self._set_trips(tenant, run, route)
        return route

    def started(self, tenant: Tenant, run: Run, message: RunStarted, at_ms: int) -> None:
        """A run introduces itself: what it says of itself holds for its later messages."""
        route = self.route(tenant, run, message)
        if not run.unit_id:
            return
        run.attributes = self._route_key(message)[: len(ATTRIBUTION) + 1]
        run.route_key = NO_ROUTE_KEY
        own = StopRule(message.cap_nanousd, message.max_retries, message.max_tool_calls, message.max_duration_s)
        if own.limits():
            run.stop_rule = own if run.stop_rule is None else run.stop_rule.stricter(own)
        route = run.route = self._ledger.route(tenant, run.attributes, run.route_key)
        self._set_trips(tenant, run, route)
        self._watch.wake(tenant, run, run, route, at_ms)
        self._state.touch(run)
        self._ledger.greet(tenant, run, route, at_ms)

    def finished(self, tenant: Tenant, run: Run, status: str, at_ms: int) -> None:
        """A run has ended: its cost becomes part of what is usual, and its incidents are over."""
        if run.state != "live":
            if run.state == "idle":
                run.state = "finished"
                self._arm(tenant, run)
            return
        route = self._ledger.route_of(tenant, run)
        totals = self._ledger.totals(tenant, route, at_ms)
        totals.runs_finished += 1
        if not run.unit_id:
            return
        run.state = "finished"
        stopped = [brake for brake in tenant.brakes_of(run) if brake.stands(self._state.now_ms)]
        if run.cost_nanousd and status != "killed" and not stopped:
            route.cohort.recent.add(run.cost_nanousd)
            self._state.touch(route.cohort)
        evidence: dict[str, Any] = {"run_status": status, "cost_nanousd": run.cost_nanousd}
        for brake in stopped:
            evidence |= self._brakes.stop_evidence(tenant, brake)
        self._brakes.target_ended(tenant, "run", run.unit_id, at_ms)
        self._incidents.resolve_unit(tenant, f"run/{run.unit_id}", at_ms, evidence)
        for group in self._groups(tenant, run):
            group.members.discard(run.unit_id)
            self._state.touch(group)
        self._arm(tenant, run)

    def outcome(self, tenant: Tenant, run: Run, message: Outcome, at_ms: int) -> None:
        """What became of a run's output."""
        totals = self._ledger.totals(tenant, self.route(tenant, run, message), at_ms)
        setattr(totals, message.outcome, getattr(totals, message.outcome) + 1)
        if run.unit_id:
            run.outcome = message.outcome
            self._state.touch(run)

    def due(self, tenant: Tenant, kind: str, unit_id: str, now_ms: int) -> None:
        """A run's, session's or tree's time has come: a deadline, or too long without a message."""
        match kind:
            case "run":
                self._run_due(tenant, unit_id, now_ms)
            case "session":
                self._group_due(tenant, tenant.sessions, unit_id, now_ms)
            case "tree":
                self._group_due(tenant, tenant.trees, unit_id, now_ms)
            case _:
                raise AssertionError(f"a timer of an unknown kind: {kind}")

    def _route_key(self, message: UsageMessage) -> RouteKey:
        """Written out, because it runs at every message."""
        tags = tuple(sorted(message.tags.items())) if message.tags else None
        model = provider = route = None
        if self._state.policy.by_call and isinstance(message, LlmCall):
            model, provider, route = message.model, message.provider, message.route
        return (
            message.workflow, message.owner, message.project, message.environment, message.agent, message.user,
            message.feature, message.tier, message.task_category, message.feature_flag, message.prompt_version,
            tags, model, provider, route,
        )  # fmt: skip

    def _set_trips(self, tenant: Tenant, run: Run, route: Route) -> None:
        self._watch.set_trips(tenant, run, route)
        for group in self._groups(tenant, run):
            self._watch.set_trips(tenant, group, route)

    def _open(self, tenant: Tenant, message: UsageMessage, at_ms: int) -> Run:
        if isinstance(message, RunFinished | Outcome | CommandAck):
            return Run(tenant.tenant_id, "", at_ms)  # about a run long gone: counted, not remembered
        if len(tenant.runs) >= self._state.policy.header.max_live_runs_per_tenant:
            return self._overflow(tenant, at_ms)
        run = Run(tenant.tenant_id, message.run_id, at_ms)
        run.clock_ms = tenant.clock_ms
        tenant.runs[message.run_id] = run
        self._arm(tenant, run)
        if "run_tree" in self._state.policy.tracks:
            self._join(tenant, tenant.trees, RunTree, run.root_run_id, run, at_ms)
        self._ledger.totals(tenant, self.route(tenant, run, message), at_ms).runs_started += 1
        return run

    def _overflow(self, tenant: Tenant, at_ms: int) -> Run:
        """Beyond the limit of live runs: spend still counts in every scope, single runs are no longer watched."""
        if tenant.overflow is None:
            tenant.overflow = Run(tenant.tenant_id, "", at_ms)
        tenant.overflow.route = None
        hour_ms = at_ms - at_ms % HOUR_MS
        limit = self._state.policy.header.max_live_runs_per_tenant
        finding = Finding(
            level=1.0,
            severity=LIVE_RUNS.settings.severity,
            value=len(tenant.runs),
            limit=limit,
            unit="runs",
            summary=f"{tenant.tenant_id} has more than {limit:,} live runs: further ones are charged, not watched",
            next_action="Look for made-up run ids; raise max_live_runs_per_tenant if the runs are real.",
        )
        subject = Subject(
            key=(hour_ms,),
            scope={"tenant_id": tenant.tenant_id},
            owner=None,
            window_start_ms=hour_ms,
            window_end_ms=hour_ms + HOUR_MS,
        )
        self._incidents.tell(tenant, LIVE_RUNS, finding, subject, at_ms)
        return tenant.overflow

    def _arm(self, tenant: Tenant, run: Run) -> None:
        run.due_ms = run.clock_ms + self._kept_ms(run)
        if run.state == "live":
            run.due_ms = min(run.due_ms, run.deadline_ms)
        tenant.wake_at(run.due_ms, "run", (run.unit_id,))
        self._state.touch(run)

    def _kept_ms(self, run: Run) -> int:
        """How long the run is remembered after its last message."""
        header = self._state.policy.header
        match run.state:
            case "live":
                return header.idle_run_minutes * MINUTE_MS
            case "idle":
                return WEIGHTY_MINUTES * MINUTE_MS
            case "finished":
                return header.finished_run_minutes * MINUTE_MS

    def _run_due(self, tenant: Tenant, run_id: str, now_ms: int) -> None:
        run = tenant.run(run_id)
        if run is None or run.due_ms != now_ms:
            return
        if run.state == "live" and run.deadline_ms <= now_ms:
            self._watch.wake(tenant, run, run, self._ledger.route_of(tenant, run), now_ms)
        if run.clock_ms + self._kept_ms(run) > now_ms:
            self._arm(tenant, run)
        elif run.state == "live" and self._weighs(tenant, run):
            self.finished(tenant, run, "idle", now_ms)
            run.state = "idle"
            self._arm(tenant, run)
        else:
            self.finished(tenant, run, "idle", now_ms)
            self._delete(tenant, run, now_ms)

    def _weighs(self, tenant: Tenant, run: Run) -> bool:
        """Whether forgetting the run would lift something: a command that stands, or a limit half reached."""
        stopped = any(brake.stands(self._state.now_ms) for brake in tenant.brakes_of(run))
        return stopped or bool(run.levels)

    def _revive(self, tenant: Tenant, run: Run, at_ms: int) -> None:
        """A run that was taken for finished goes on, with all that it had used up."""
        run.state = "live"
        if run.session_id is not None and "session" in self._state.policy.tracks:
            self._rejoin(tenant, tenant.sessions, Session, run.session_id, run, at_ms)
        if "run_tree" in self._state.policy.tracks:
            self._rejoin(tenant, tenant.trees, RunTree, run.root_run_id, run, at_ms)
        self._arm(tenant, run)

    def _rejoin(self, tenant: Tenant, groups: dict[str, G], kind: type[G], group_id: str, run: Run, at_ms: int) -> None:
        if (group := groups.get(group_id)) is None:
            self._join(tenant, groups, kind, group_id, run, at_ms)
        else:
            group.members.add(run.unit_id)
            self._state.touch(group)

    def _delete(self, tenant: Tenant, run: Run, now_ms: int) -> None:
        # A call that came after the end may have opened incidents again.
        self._incidents.resolve_unit(tenant, f"run/{run.unit_id}", now_ms, {"cost_nanousd": run.cost_nanousd})
        self._brakes.target_ended(tenant, "run", run.unit_id, now_ms)
        del tenant.runs[run.unit_id]
        self._state.forget(run)
        self._state.touch(tenant)  # the clock stood in the run's row

    def _group_due(self, tenant: Tenant, groups: dict[str, G], unit_id: str, now_ms: int) -> None:
        group = groups.get(unit_id)
        if group is None or group.due_ms != now_ms:
            return
        member = next((run for run in map(tenant.run, sorted(group.members)) if run is not None), None)
        if group.deadline_ms <= now_ms and member is not None:
            self._watch.wake(tenant, group, member, self._ledger.route_of(tenant, member), now_ms)
        idle_ms = group.last_ms + self._state.policy.header.idle_run_minutes * MINUTE_MS
        if group.members or idle_ms > now_ms:
            wait_ms = self._state.policy.header.idle_run_minutes * MINUTE_MS
            group.due_ms = max(idle_ms, now_ms + wait_ms if idle_ms <= now_ms else 0)
            if group.deadline_ms > now_ms:
                group.due_ms = min(group.due_ms, group.deadline_ms)
            tenant.wake_at(group.due_ms, group.kind, (group.unit_id,))
            self._state.touch(group)
            return
        evidence = {"cost_nanousd": group.cost_nanousd}
        self._incidents.resolve_unit(tenant, f"{group.unit_kind}/{unit_id}", now_ms, evidence)
        self._brakes.target_ended(tenant, group.unit_kind, unit_id, now_ms)
        del groups[unit_id]
        self._state.forget(group)

    def _groups(self, tenant: Tenant, run: Run) -> list[Group]:
        found = [tenant.sessions.get(run.session_id or ""), tenant.trees.get(run.root_run_id)]
        return [group for group in found if group is not None and run.unit_id]

    def _join_session(self, tenant: Tenant, run: Run, session_id: str, at_ms: int) -> None:
        if not run.unit_id:
            return
        run.session_id = session_id
        self._state.touch(run)
        if "session" in self._state.policy.tracks:
            self._join(tenant, tenant.sessions, Session, session_id, run, at_ms)

    def _join_tree(self, tenant: Tenant, run: Run, message: UsageMessage, at_ms: int) -> None:
        """Learn a run's root: named by itself, else its parent's. Children may come before their parent does."""
        if not run.unit_id:
            return
        parent_id = message.parent_run_id or run.parent_run_id
        parent = tenant.run(parent_id) if parent_id is not None else None
        root_id = message.root_run_id or (parent.root_run_id if parent is not None else parent_id) or run.root_run_id
        run.parent_run_id = parent_id
        run.declared_root = message.root_run_id is not None
        self._state.touch(run)
        if root_id == run.root_run_id:
            return
        former = tenant.trees.get(run.root_run_id)
        was_root = run.root_run_id == run.unit_id
        run.root_run_id = root_id
        if former is None:
            return
        tree = self._group(tenant, tenant.trees, RunTree, root_id, at_ms)
        if was_root:
            self._absorb(tenant, tree, former, at_ms)
        else:
            former.move_to(tree, run)
            self._state.touch(former)
            self._state.touch(tree)
        run.forget_route()  # the tree's trips are set with the run's, at the message that follows
        self._brakes.joined(tenant, run, at_ms)

    def _absorb(self, tenant: Tenant, tree: RunTree, former: RunTree, at_ms: int) -> None:
        """What looked like a root has a root of its own: its whole tree moves over."""
        self._incidents.resolve_unit(tenant, f"run_tree/{former.unit_id}", at_ms, {"part_of": tree.unit_id})
        tree.add(former)
        for run_id in sorted(former.members):
            member = tenant.run(run_id)
            if member is not None:
                member.root_run_id = tree.unit_id
                self._state.touch(member)
        tree.members |= former.members
        tenant.trees.pop(former.unit_id, None)
        self._state.forget(former)
        self._state.touch(tree)

    def _regroup(self, tenant: Tenant, groups: dict[str, G], kind: type[G]) -> None:
        """Count every known run in its group, from nothing: groups of an earlier policy have missed what came since."""
        for group in groups.values():
            self._incidents.resolve_unit(tenant, f"{group.unit_kind}/{group.unit_id}", tenant.clock_ms, {})
            self._state.forget(group)
        groups.clear()
        for run_id in sorted(tenant.runs):
            run = tenant.run(run_id)
            group_id = None if run is None else run.session_id if kind is Session else run.root_run_id
            if run is not None and group_id is not None:
                self._join(tenant, groups, kind, group_id, run, run.started_ms)

    def _join(self, tenant: Tenant, groups: dict[str, G], kind: type[G], group_id: str, run: Run, at_ms: int) -> None:
        group = self._group(tenant, groups, kind, group_id, at_ms)
        group.add(run)
        if run.state == "live":
            group.members.add(run.unit_id)
        run.forget_route()  # its trips are set with the run's, at the message that follows
        self._state.touch(group)

    def _group(self, tenant: Tenant, groups: dict[str, G], kind: type[G], group_id: str, at_ms: int) -> G:
        group = groups.get(group_id)
        if group is None:
            group = groups[group_id] = kind(tenant.tenant_id, group_id, at_ms)
            group.due_ms = at_ms + self._state.policy.header.idle_run_minutes * MINUTE_MS
            tenant.wake_at(group.due_ms, group.kind, (group_id,))
            self._state.touch(group)
        return group
