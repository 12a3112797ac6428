"""runs.v1: each run as it stands, recorded at its turns and in between while it changes."""

from collections.abc import Sequence
from typing import Final

from models.attribution import Router, attribution_of
from models.commands.standing import STRENGTH, StandingCommand
from models.effects import Effect
from models.runs.nearest import limits_of, nearest_limit
from models.state.partition import PartitionState
from models.state.tenant import Tenant
from models.state.units.route import RouteLimits
from models.state.units.runs import RECORD_WAIT_MS, OrderSeen, Run
from models.state.units.unit import MAX_NANOUSD, NO_TRIP
from schemas.run import NearestLimit, OrderOnRun, RunRecord
from schemas.usage import ATTRIBUTION, UNATTRIBUTED, CommandAck

ORDERS_AT_ONCE: Final = 500
"""Records of runs under a new order that are written at a time; the next come `ORDERS_EVERY_MS` later."""
ORDERS_EVERY_MS: Final = 100
AT_ONCE: Final = -1
"""A `record_ms`: the message that is being handled has the run recorded."""


class RunRecords:
    """The records of a partition's runs."""

    def __init__(self, state: PartitionState, router: Router) -> None:
        self._state = state
        self._router = router

    def changed(self, tenant: Tenant, run: Run) -> None:
        """A message has changed the run, and its `record_ms` is not later: record it, or have that done soon."""
        if not run.unit_id:
            run.record_ms = NO_TRIP  # it stands for many
            return
        now_ms = run.clock_ms
        if run.record_ms or not run.recorded_ms or now_ms >= run.next_record_ms():
            self.write(tenant, run)
            self._wait(tenant, run)
            return
        run.recorded_ms = min(run.recorded_ms, now_ms - 1)  # else nobody could see later that this came behind it
        run.record_ms = run.next_record_ms()
        due_ms = run.record_due_ms()
        if due_ms < run.due_ms:
            tenant.wait_for_record(run, due_ms)
        self._state.touch(run)

    def due(self, tenant: Tenant, run: Run, now_ms: int) -> None:
        """No message has come any more: what the last ones have changed is recorded now."""
        if 0 < run.record_ms <= now_ms - RECORD_WAIT_MS:
            self.write(tenant, run)

    def write(self, tenant: Tenant, run: Run) -> None:
        """Record the run as it stands."""
        now_ms = self._state.now_ms
        limits = self._limits(tenant, run)
        order = self._see_order(tenant, run, limits) if tenant.commands or run.order is not None else None
        record = self._record(tenant, run, limits, order, now_ms)
        run.recorded_ms = max(now_ms, run.clock_ms)
        run.record_ms = 0
        self._state.touch(run)
        self._state.publish(Effect("runs.v1", record.key, record))

    def ordered(self, tenant: Tenant) -> None:
        """A command was given or lifted: whoever it holds is recorded as soon as what goes on now is over."""
        if not tenant.ordered_ms:
            tenant.ordered_ms = self._state.now_ms
        if not tenant.orders_due_ms:
            self._look_at_orders(tenant, self._state.now_ms + 1)  # behind all that happens at the same moment

    def orders_due(self, tenant: Tenant, due_ms: int) -> None:
        """Record runs under a new order, some at a time: a tenant may have very many."""
        if tenant.orders_due_ms != due_ms:
            return
        tenant.orders_due_ms = 0
        behind = [run for run in self._ordered_runs(tenant) if self._is_behind(tenant, run)]
        for run in behind[:ORDERS_AT_ONCE]:
            self.write(tenant, run)
        if len(behind) > ORDERS_AT_ONCE:
            self._look_at_orders(tenant, max(due_ms, self._state.now_ms) + ORDERS_EVERY_MS)
        else:
            tenant.ordered_ms = 0
        self._state.touch(tenant)

    def answered(self, tenant: Tenant, run: Run, ack: CommandAck, at_ms: int) -> None:
        """The run's guard has answered a command; what it says of another one than stands on the run is no news."""
        if not run.unit_id or not tenant.commands:
            return
        command = self._see_order(tenant, run, self._limits(tenant, run))
        if command is not None and run.order is not None and command.command_id == ack.command_id:
            run.order = run.order._replace(acted=ack.acted, acted_ms=at_ms, denied_by=ack.denied_by)
            run.record_ms = AT_ONCE

    def _look_at_orders(self, tenant: Tenant, at_ms: int) -> None:
        tenant.orders_due_ms = at_ms
        tenant.wake_at(at_ms, "orders", ())
        self._state.touch(tenant)

    def _ordered_runs(self, tenant: Tenant) -> list[Run]:
        """The runs that one of the tenant's latest commands may be about, by id."""
        latest = [one for one in tenant.commands.values() if one.issued_ms >= tenant.ordered_ms]
        if any(one.target_type != "run" for one in latest):
            return tenant.live()
        runs = [tenant.run(run_id) for run_id in sorted({one.target_id for one in latest})]
        return [run for run in runs if run is not None]

    def _is_behind(self, tenant: Tenant, run: Run) -> bool:
        """Whether another command stands on the run than its last record says."""
        command = _strictest(tenant, run, self._limits(tenant, run), self._state.now_ms)
        seen = None if run.order is None else run.order.about
        return seen != (None if command is None else _about(command))

    def _see_order(self, tenant: Tenant, run: Run, limits: RouteLimits) -> StandingCommand | None:
        """Have the run know the strictest command that stands on it. Returns that command."""
        command = _strictest(tenant, run, limits, self._state.now_ms)
        if command is None:
            run.order = None
        elif run.order is None or run.order.about != _about(command):
            own = command.target_type == "run"
            run.order = OrderSeen(_about(command), command.cost_nanousd if own else run.cost_nanousd)
        return command

    def _limits(self, tenant: Tenant, run: Run) -> RouteLimits:
        return limits_of(self._state.policy, tenant.tenant_id, self._router.route_of(tenant, run))

    def _wait(self, tenant: Tenant, run: Run) -> None:
        """Look at a busy run again when its next record is overdue. One that is to be looked at much later was silent
        before: it is waited for once there is something to record.
        """
        due_ms = run.record_due_ms()
        if run.due_ms < due_ms and (run.state != "live" or run.deadline_ms > due_ms):
            tenant.wait_for_record(run, due_ms)

    def _attribution(self, run: Run) -> Sequence[str | None]:
        """Whose it is, in the order of `ATTRIBUTION`; None where nobody says."""
        if self._state.policy.gives:
            known = attribution_of(run, self._state.policy)
            return [known.get(name) for name in ATTRIBUTION]
        told: Sequence[str | None] = run.route_key[0][:-1]  # tags come behind
        if run.attributes and run.attributes != run.route_key[0]:
            told = [mine or theirs for mine, theirs in zip(told, run.attributes[:-1], strict=True)]
        return [None if name == UNATTRIBUTED else name for name in told] if UNATTRIBUTED in told else told

    def _nearest(self, tenant: Tenant, run: Run, limits: RouteLimits, now_ms: int) -> NearestLimit | None:
        if not self._state.policy.tracks_groups:
            return nearest_limit(limits, run, (), now_ms)
        session = tenant.group("session", run.session_id)  # one that sleeps has had no call for long, and sleeps on
        tree = tenant.group("run_tree", run.root_run_id)
        return nearest_limit(limits, run, [group for group in (session, tree) if group is not None], now_ms)

    def _record(
        self, tenant: Tenant, run: Run, limits: RouteLimits, command: StandingCommand | None, now_ms: int
    ) -> RunRecord:
        (
            workflow, owner, project, environment, agent, user, feature, tier, task_category, feature_flag,
            prompt_version,
        ) = self._attribution(run)  # fmt: skip
        last_model, last_tokens = run.last_model or (None, 0)
        is_live = run.state == "live"
        return RunRecord(
            tenant_id=run.tenant_id,
            run_id=run.unit_id,
            ts_ms=now_ms,
            state=run.state,
            started_ms=run.started_ms,
            last_ms=run.last_ms,
            cost_nanousd=min(run.cost_nanousd, MAX_NANOUSD),
            calls=run.calls,
            tool_calls=run.tool_calls,
            retries=run.retries,
            premium_calls=run.premium_calls,
            input_tokens=run.input_tokens,
            output_tokens=run.output_tokens,
            retried_nanousd=min(run.retried_nanousd, run.cost_nanousd),
            context_tokens=last_tokens if run.context is None else run.context.tokens,
            model=run.main_model() or last_model,
            ended_ms=None if is_live else run.ended_ms,
            status=run.status,
            outcome=run.outcome,
            session_id=run.session_id,
            root_run_id=run.root_run_id,
            parent_run_id=run.parent_run_id,
            workflow=workflow,
            owner=owner,
            project=project,
            environment=environment,
            agent=agent,
            user=user,
            feature=feature,
            tier=tier,
            task_category=task_category,
            feature_flag=feature_flag,
            prompt_version=prompt_version,
            tags=run.tags(),
            expected_route=run.expected_route,
            expected_outcome=run.expected_outcome,
            escalation=run.escalation,
            nearest=self._nearest(tenant, run, limits, now_ms),
            order=None if command is None else _order(command, run),
        )


def _strictest(tenant: Tenant, run: Run, limits: RouteLimits, now_ms: int) -> StandingCommand | None:
    """The strictest command that stands on a run; of equal ones that to the nearest target."""
    found = tenant.commands_on(run)
    found += [command for target in limits.targets if (command := tenant.commands.get(target)) is not None]
    standing = [command for command in found if command.stands(now_ms)]
    return max(standing, key=_strength, default=None)


def _strength(command: StandingCommand) -> int:
    return STRENGTH[command.action]


def _about(command: StandingCommand) -> str:
    """What tells a command from others on the same run. One that is only given again for longer is the same."""
    return f"{command.action} {command.target_type} {command.issued_ms}"


def _order(command: StandingCommand, run: Run) -> OrderOnRun:
    seen = run.order
    assert seen is not None
    return OrderOnRun(
        command_id=command.command_id,
        action=command.action,
        target_type=command.target_type,
        target_id=command.target_id,
        rule=command.origin.rule,
        incident_id=command.origin.incident_id,
        reason=command.origin.reason,
        issued_ms=command.issued_ms,
        spent_nanousd=seen.spent_nanousd,
        cause_event_id=command.cause_event_id,
        acted=seen.acted,
        acted_ms=seen.acted_ms,
        denied_by=seen.denied_by,
    )
