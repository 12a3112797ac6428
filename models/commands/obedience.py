"""Are commands obeyed? Answers, answers that do not come, and calls of what should have been stopped."""

from typing import Any, Final

from models.commands.commands import ANSWERED, Commands, overshoot, stop_evidence
from models.commands.nudges import Nudges
from models.commands.standing import StandingCommand
from models.commands.workflow_stops import WorkflowStops, disobedience_key
from models.detectors.base import Detector
from models.incidents.incident import Subject
from models.incidents.incidents import Incidents
from models.rules.finding import Finding
from models.state.partition import PartitionState
from models.state.tenant import Tenant
from models.state.units.runs import Run
from schemas.control import Target, TargetType
from schemas.duration import MINUTE_MS
from schemas.usage import CommandAck, LlmCall, ToolCall

REPEAT_EVERY_MS: Final = MINUTE_MS
STOPPED: Final = ("stopped", "already_finished")


class Obedience:
    """Watches the commands that were given."""

    def __init__(self, state: PartitionState, incidents: Incidents, commands: Commands, nudges: Nudges) -> None:
        self._state = state
        self._incidents = incidents
        self._commands = commands
        self._nudges = nudges
        self._workflow_stops = WorkflowStops(state, incidents)

    def acknowledge(self, tenant: Tenant, ack: CommandAck, at_ms: int) -> None:
        """A guard has answered. A kill that was obeyed is confirmed at once: what it was given for is over."""
        if ack.acted == "delivered":
            self._nudges.delivered(tenant, ack, at_ms)
            return
        command = tenant.command_ids.get(ack.command_id)
        if command is None or ack.acted == "ignored" or not command.move("ack"):
            return
        command.acked_ms = at_ms
        self._state.touch(command)
        evidence = stop_evidence(tenant, command)
        self._commands.answered(tenant, command, at_ms, evidence)
        if command.action == "kill" and ack.acted in STOPPED:
            unit_key = f"{command.target_type}/{command.target_id}"
            others = {"stopped_by": command.origin.rule, "command_id": command.command_id}
            ordered = tenant.incidents.get(command.origin.incident_id)
            if ordered is not None and ordered.unit_key == unit_key:
                self._incidents.resolve(tenant, ordered, at_ms, evidence)
            else:
                others |= evidence  # it was given for its workflow's incident, which goes on
            self._incidents.resolve_unit(tenant, unit_key, at_ms, others)

    def call_seen(self, tenant: Tenant, run: Run, call: LlmCall | ToolCall, cost_nanousd: int, at_ms: int) -> None:
        """A run has made a call while commands stand: was it one that should have been dead?"""
        commanded = tenant.commanded
        if run.unit_id not in commanded and run.root_run_id not in commanded and run.session_id not in commanded:
            return
        for command in tenant.commands_on(run):
            if command.action == "kill" and command.out_ms and command.stands(self._state.now_ms):
                for rule in self._state.policy.command_rules:
                    finding = rule.call_after(command, call, overshoot(tenant, command), self._state.now_ms)
                    self._note(tenant, rule, finding, command, run, cost_nanousd, at_ms)
                    if finding is not None:
                        self._repeat(tenant, command)

    def _repeat(self, tenant: Tenant, command: StandingCommand) -> None:
        """The run calls on: maybe its guard never got to know of the command."""
        now_ms = self._state.now_ms
        if now_ms >= command.repeated_ms + REPEAT_EVERY_MS:
            command.repeated_ms = now_ms
            self._commands.repeat(tenant, command.target)

    def due(self, tenant: Tenant, target_type: TargetType, target_id: str, now_ms: int) -> Target | None:
        """A command's time has come: its answer is late, or it has run out. Returns the target of one that ran out."""
        command = tenant.commands.get((target_type, target_id))
        if command is None or command.due_ms != now_ms:
            return None
        if now_ms >= command.expires_ms:
            if self._commands.renew(tenant, command, now_ms):
                return None
            self._commands.expire(tenant, command, now_ms)
            return Target(target_type, target_id)
        if 0 < command.answer_due_ms <= now_ms:
            command.move("deadline")
            self._unanswered(tenant, command, now_ms)
        self._commands.wait(tenant, command)
        return None

    def _unanswered(self, tenant: Tenant, command: StandingCommand, now_ms: int) -> None:
        running = tenant.live_in(command.target) if command.action == "kill" else []
        if not running:
            return  # over before anybody could answer
        for rule in self._state.policy.command_rules:
            finding = rule.unanswered(command, overshoot(tenant, command))
            self._note(tenant, rule, finding, command, running[0], 0, now_ms)

    def _note(
        self,
        tenant: Tenant,
        rule: Detector[Any],
        finding: Finding | None,
        command: StandingCommand,
        run: Run,
        cost_nanousd: int,
        at_ms: int,
    ) -> None:
        if finding is None:
            return
        subject = Subject(
            key=disobedience_key(command),
            scope={"tenant_id": tenant.tenant_id, command.target_type: command.target_id},
            owner=command.origin.owner,
            run_id=run.unit_id,
            run=run,
            unit_key=command.disobeyed,
        )
        if command.target_type in ANSWERED:
            subject, finding = self._workflow_stops.about_disobedience(
                tenant, rule, finding, subject, command, cost_nanousd
            )
        self._incidents.note_and_publish(tenant, rule, finding, subject, at_ms)
