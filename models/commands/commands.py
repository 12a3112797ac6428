"""What should stand for a target, made so: commands given, held back, answered, lifted and run out."""

from typing import Any, Final, NamedTuple, get_args

from models.commands import blast_radius
from models.commands.held import HeldCommand
from models.commands.standing import KILL_STANDS_MS, Origin, StandingCommand
from models.detectors.base import ScopeDetector
from models.effects import Effect
from models.identity import derived_id
from models.incidents.incident import tenant_in_hour
from models.incidents.incidents import Incidents
from models.rules.service_rules import BLAST_RADIUS, FORGED_COMMAND
from models.runs.records import RunRecords
from models.state.partition import PartitionState
from models.state.tenant import Tenant
from schemas.control import Command, Target, TargetType
from schemas.duration import MINUTE_MS
from schemas.policy import Action
from schemas.signing import KeyId, control_key

CLOCKS_DIFFER_MS: Final = 5 * MINUTE_MS
"""How far an operator's clock may be off: an order further from its append is refused where it is read, and a resume
that is as far behind counts as ordered after the command."""
TARGET_TYPES: tuple[TargetType, ...] = get_args(TargetType)
ANSWERED: Final = ("run", "session", "run_tree")
"""Types of target of which somebody must answer: in a workflow, tenant or scope nobody may be running."""
LIFTED_BY_A_LIMIT: tuple[Action, ...] = ("pause", "downgrade")
"""Commands that end when the limit they were given for is raised. A run's kill is for people to lift."""


class Stop(NamedTuple):
    """One target of a command, and what the command says of it."""

    target: Target
    spent_nanousd: int
    """By now: what comes on top is overshoot."""
    expires_ms: int = 0
    """When the reason ends by itself, 0 for a kill that stands a week."""
    scope: dict[str, list[str]] | None = None
    action: Action | None = None
    """Where it is another one than the other targets'."""


class Lifted(NamedTuple):
    """A command whose reason is gone, before its resume is published."""

    tenant: Tenant
    command: StandingCommand
    reason: str
    at_ms: int


class Commands:
    """The commands of a partition's targets. Level-triggered: rules say what should stand, as often as they find it."""

    def __init__(
        self, state: PartitionState, incidents: Incidents, records: RunRecords, *, go_out_at_once: bool
    ) -> None:
        self._state = state
        self._incidents = incidents
        self._records = records
        self._go_out_at_once = go_out_at_once
        self._waiting: list[tuple[Tenant, StandingCommand]] = []
        """Given, and not gone out yet."""
        self.repeats: list[tuple[Command, KeyId]] = []
        """Commands given before that are to be written once more, each with on whose word. They change nothing."""
        self.lifted: list[Lifted] = []
        """Ended by `relieve`, and not yet looked at again."""

    def want(self, tenant: Tenant, stop: Stop, action: Action, origin: Origin, at_ms: int) -> None:
        """Have a command stand for what happened at `at_ms`: `action`, unless the stop has one of its own. Nothing
        follows where one as strong stands as long.

        A kill of a run, session or tree beyond the blast-radius limit is held until the limit allows it or its reason
        is gone.
        """
        now_ms = self._state.now_ms
        target, action = stop.target, stop.action or action
        key = (target.type, target.id)
        command = tenant.commands.get(key)
        is_ordered = origin.signer == "operator"
        if command is not None and command.covers(action, stop.expires_ms or None, now_ms, is_ordered=is_ordered):
            return
        limited = action == "kill" and target.type in ANSWERED and not is_ordered
        if limited and not self._admit_kill(tenant):
            self._hold(tenant, stop, action, origin, at_ms)
            return
        if command is None:
            command = tenant.commands[key] = StandingCommand(tenant.tenant_id, target.type, target.id)
            tenant.commanded.add(target.id)
        command.move("give")
        command.action = action
        command.origin = origin
        command.scope = stop.scope
        command.cause_ms = at_ms
        command.cause_event_id = self._state.cause_event_id
        command.issued_ms = now_ms
        command.expires_ms = stop.expires_ms or now_ms + KILL_STANDS_MS
        command.deadline_ms = self._answer_due_ms(command, now_ms)
        command.cost_nanousd = stop.spent_nanousd
        command.acked_ms = 0
        self.drop_held(tenant, key)
        self._give(tenant, command)

    def lift(self, tenant: Tenant, command: StandingCommand, reason: str, at_ms: int, *, until_ms: int = 0) -> bool:
        """End a command on an operator's word: its target may go on. False where it is not in force.

        `until_ms` is when the operator's permission ends, 0 for in a week.
        """
        if not command.stands(self._state.now_ms):
            return False
        command.move("lift")
        command.origin = command.origin._replace(reason=reason, signer="operator")
        self._publish_resume(tenant, command, at_ms, until_ms)
        return True

    def relieve(self, tenant: Tenant, incident_id: str, at_ms: int, reason: str = "the limit was raised") -> None:
        """What was wrong is so no more: commands given for it end, those held for it are dropped.

        A kill of a run, session or tree stays: a person lifts it. The resumes are published by `resume_lifted`, once
        somebody has looked whether another rule asks for the same: no call may slip through in between.
        """
        for key in sorted(key for key, held in tenant.held.items() if held.origin.incident_id == incident_id):
            self.drop_held(tenant, key)
        given = sorted(key for key, one in tenant.commands.items() if one.origin.incident_id == incident_id)
        for command in [tenant.commands[key] for key in given]:
            ends = command.action in LIFTED_BY_A_LIMIT or command.target_type == "scope"
            if ends and not command.is_by_operator and command.stands(self._state.now_ms):
                command.move("lift")
                self.lifted.append(Lifted(tenant, command, reason, at_ms))

    def resume_lifted(self, lifted: Lifted) -> None:
        """Publish the resume of a command that `relieve` has ended, unless another rule has commanded its target."""
        command = lifted.command
        if command.state == "lifted":
            command.origin = command.origin._replace(reason=lifted.reason, signer="engine")
            self._publish_resume(lifted.tenant, command, lifted.at_ms, 0)

    def held_due(self, tenant: Tenant, now_ms: int) -> None:
        """The limit may allow the next of the commands that it holds back."""
        if tenant.held_due_ms == now_ms:
            tenant.held_due_ms = 0
            self._state.touch(tenant)
            self.retry_held(tenant)
            if tenant.held:
                self._retry_later(tenant)

    def _retry_later(self, tenant: Tenant) -> None:
        tenant.held_due_ms = blast_radius.retry_ms(tenant, self._state.now_ms)
        tenant.wake_at(tenant.held_due_ms, "held", ())
        self._state.touch(tenant)

    def retry_held(self, tenant: Tenant) -> None:
        """Give what is held back as far as the limit allows now, the oldest first; drop what has lost its reason."""
        now_ms = self._state.now_ms
        for key, held in sorted(tenant.held.items(), key=lambda pair: (pair[1].since_ms, pair[0])):
            if not self._is_wanted(tenant, held, now_ms):
                self.drop_held(tenant, key)
                continue
            stop = Stop(held.target, spent_by(tenant, held.target), held.expires_ms)
            self.want(tenant, stop, held.action, held.origin, held.cause_ms)
            if key in tenant.held:
                return  # no room for this one, so none for those behind it

    def target_ended(self, tenant: Tenant, target: Target, at_ms: int) -> None:
        """A target is over, whatever its guard did: it spends no more."""
        self.drop_held(tenant, (target.type, target.id))
        command = tenant.commands.get((target.type, target.id))
        if command is not None:
            self.answered(tenant, command, at_ms, stop_evidence(tenant, command))

    def answered(self, tenant: Tenant, command: StandingCommand, at_ms: int, evidence: dict[str, Any]) -> None:
        """Nobody disobeys any more; a call that comes after that is news."""
        self._incidents.resolve_unit(tenant, command.disobeyed, at_ms, evidence)
        self._incidents.forget_unit(tenant, command.disobeyed)

    def renew(self, tenant: Tenant, command: StandingCommand, now_ms: int) -> bool:
        """Have a command without an end stand for another week, wherever its target could still go on.

        It remains the same command: as long ago, and as answered, as before. False for whatever ends by itself, as the
        pause of a budget does with its period.
        """
        periodic = isinstance(self._state.policy.rules.get(command.origin.rule), ScopeDetector)
        ends = command.action == "resume" or (periodic and not command.is_sticky)
        if ends or not command.is_open_ended or not self._could_go_on(tenant, command):
            return False
        command.expires_ms = now_ms + KILL_STANDS_MS
        self._give(tenant, command)
        return True

    def expire(self, tenant: Tenant, command: StandingCommand, now_ms: int) -> None:
        """A command has run out, and is forgotten."""
        command.move("expire")
        self.answered(tenant, command, now_ms, {"command_id": command.command_id})
        del tenant.commands[command.target_type, command.target_id]
        if not any((target_type, command.target_id) in tenant.commands for target_type in TARGET_TYPES):
            tenant.commanded.discard(command.target_id)
        tenant.command_ids.pop(command.command_id, None)
        self._state.forget(command)

    def wait(self, tenant: Tenant, command: StandingCommand) -> None:
        """Have the command looked at when time alone changes something."""
        command.due_ms = command.next_due_ms()
        tenant.wake_at(command.due_ms, "command", (command.target_type, command.target_id))
        self._state.touch(command)

    def repeat(self, tenant: Tenant, target: Target, cause: str | None = None) -> bool:
        """Have the last command to a target written once more: same id, same seq. False if there was none."""
        command = tenant.commands.get((target.type, target.id))
        if command is None or not command.command_id:
            return False
        self.repeats.append((_message(command, cause), command.origin.signer))
        return True

    def deny(self, tenant: Tenant, target: Target, cause: str) -> None:
        """Say of a target that nothing stands against it, where somebody else has claimed that."""
        now_ms = self._state.now_ms
        denied = StandingCommand(tenant.tenant_id, target.type, target.id)
        denied.origin = Origin(
            derived_id(tenant.tenant_id, FORGED_COMMAND.rule), FORGED_COMMAND.rule, "nobody stopped it", None
        )
        denied.seq = denied.issued_ms = denied.cause_ms = now_ms
        denied.expires_ms = now_ms + KILL_STANDS_MS
        denied.command_id = derived_id(tenant.tenant_id, target.type, target.id, "resume", str(now_ms))
        self.repeats.append((_message(denied, cause), "engine"))

    def _could_go_on(self, tenant: Tenant, command: StandingCommand) -> bool:
        """Whether the target is remembered. What operators kill as a whole needs no member of which anybody knows."""
        match command.target_type:
            case "run":
                return tenant.remembers("run", command.target_id)
            case "session" | "run_tree" if not command.is_by_operator:
                return tenant.remembers(command.target_type, command.target_id)
            case _:
                return True

    def _publish_resume(self, tenant: Tenant, command: StandingCommand, at_ms: int, until_ms: int) -> None:
        command.action = "resume"
        command.cause_event_id = self._state.cause_event_id
        command.issued_ms = command.cause_ms = max(at_ms, self._state.now_ms)
        command.expires_ms = until_ms or command.issued_ms + KILL_STANDS_MS
        self._give(tenant, command)

    def _admit_kill(self, tenant: Tenant) -> bool:
        """Count one more kill of the minute, unless that goes beyond the limit. Returns whether it may be given."""
        if not blast_radius.admit(tenant, self._state.policy.header.blast_radius, self._state.now_ms):
            return False
        self._state.touch(tenant)
        return True

    def _is_wanted(self, tenant: Tenant, held: HeldCommand, now_ms: int) -> bool:
        """Whether the reason of a held command still is true: its incident open, its target alive."""
        incident = tenant.incidents.get(held.origin.incident_id)
        if incident is None or incident.alert is None or 0 < held.expires_ms <= now_ms:
            return False
        if held.target_type == "run":
            run = tenant.run(held.target_id)
            return run is not None and run.state == "live"
        return tenant.group(held.target_type, held.target_id) is not None

    def _hold(self, tenant: Tenant, stop: Stop, action: Action, origin: Origin, at_ms: int) -> None:
        """One kill too many: it waits, and one page an hour says so."""
        now_ms, target = self._state.now_ms, stop.target
        key = (target.type, target.id)
        held = tenant.held.get(key)
        if held is None:
            held = tenant.held[key] = HeldCommand(tenant.tenant_id, target.type, target.id, now_ms)
        held.action, held.origin, held.cause_ms, held.expires_ms = action, origin, at_ms, stop.expires_ms
        self._state.touch(held)
        if not tenant.held_due_ms:
            self._retry_later(tenant)
        limit = self._state.policy.header.blast_radius
        finding = blast_radius.finding(tenant, limit, f"{target.type}/{target.id}", origin.rule)
        subject = tenant_in_hour(tenant.tenant_id, now_ms)
        self._incidents.note_and_publish(tenant, BLAST_RADIUS, finding, subject, at_ms)

    def drop_held(self, tenant: Tenant, key: tuple[Any, str]) -> None:
        """Give up a command that is held back, if there is one."""
        held = tenant.held.pop(key, None)
        if held is not None:
            self._state.forget(held)

    def _give(self, tenant: Tenant, command: StandingCommand) -> None:
        tenant.command_ids.pop(command.command_id, None)
        # Not just one more: a guard remembers the highest it has seen when this command is long forgotten.
        command.seq = max(command.seq, self._state.now_ms) + 1
        command.command_id = derived_id(
            tenant.tenant_id, command.target_type, command.target_id, command.action, command.origin.incident_id,
            command.seq,
        )  # fmt: skip
        tenant.command_ids[command.command_id] = command
        value = _message(command, self._state.cause_event_id)
        key = control_key(tenant.tenant_id, command.target_type, command.target_id)
        self._state.publish(Effect("control.v1", key, value, command.origin.signer))
        command.out_ms = command.issued_ms if self._go_out_at_once else 0
        if not command.out_ms:
            self._waiting.append((tenant, command))
        self.wait(tenant, command)
        self._records.ordered(tenant)

    def go_out(self, at_ms: int) -> None:
        """What was given since the last call goes out at `at_ms`: nobody can have obeyed it before.

        A worker that has been away finds the cause of a kill long after it happened, and calls that were made since
        then: they are nobody's disobedience.
        """
        for tenant, command in self._waiting:
            command.out_ms = max(command.issued_ms, at_ms)
            if tenant.commands.get((command.target_type, command.target_id)) is command:
                command.deadline_ms = command.deadline_ms and self._answer_due_ms(command, command.out_ms)
                self.wait(tenant, command)
        self._waiting.clear()

    def _answer_due_ms(self, command: StandingCommand, since_ms: int) -> int:
        """When an answer to a command of `since_ms` is due; 0 where none is."""
        if command.target_type not in ANSWERED:
            return 0
        return since_ms + self._state.policy.header.ack_deadline_seconds * 1000


def _message(command: StandingCommand, cause_event_id: str | None) -> Command:
    """The command as it is published."""
    return Command(
        command_id=command.command_id,
        action=command.action,
        tenant_id=command.tenant_id,
        target=command.target,
        reason=command.origin.reason,
        rule=command.origin.rule,
        incident_id=command.origin.incident_id,
        issued_ms=command.issued_ms,
        expires_ms=command.expires_ms,
        seq=command.seq,
        cause_event_id=cause_event_id,
        cause_ts_ms=command.cause_ms,
        scope=command.scope,
    )


def spent_by(tenant: Tenant, target: Target) -> int:
    """What a target has spent so far, in nano-dollars."""
    unit = tenant.unit(target.type, target.id)
    return 0 if unit is None else unit.cost_nanousd


def overshoot(tenant: Tenant, command: StandingCommand) -> int:
    """What the target has spent since the command was given, in nano-dollars."""
    unit = tenant.unit(command.target_type, command.target_id)
    return 0 if unit is None else max(0, unit.cost_nanousd - command.cost_nanousd)


def stop_evidence(tenant: Tenant, command: StandingCommand) -> dict[str, Any]:
    """What a stop has cost and how long it took."""
    evidence: dict[str, Any] = {
        "command_id": command.command_id,
        "action": command.action,
        "overshoot_nanousd": overshoot(tenant, command),
    }
    if command.acked_ms:
        evidence["cause_to_stop_ms"] = command.acked_ms - command.cause_ms
    return evidence
