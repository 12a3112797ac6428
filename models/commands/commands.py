"""Giving commands, hearing answers, and noticing when a command is not obeyed."""

from typing import Any

from models.commands.standing import STRENGTH, Brake, Origin
from models.detectors.base import Detector
from models.effects import Effect
from models.identity import derived_id
from models.incidents.incident import Subject
from models.incidents.incidents import Incidents
from models.rules.finding import Finding
from models.rules.service_rules import BLAST_RADIUS
from models.state.partition import PartitionState
from models.state.runs import Group, Run
from models.state.tenant import Tenant
from schemas.control import Command, Target, TargetType
from schemas.policy import Action
from schemas.signing import KeyId, control_key
from schemas.usage import CommandAck, LlmCall, ToolCall

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
KILL_STANDS_MS = 7 * 24 * 3_600_000
"""How long a kill is worth repeating: its run is long gone by then, and its id with it."""
CLOCKS_DIFFER_MS = 5 * MINUTE_MS
"""How far an operator's clock may be behind: a resume within it counts as ordered after the command."""


class Brakes:
    """The brakes of a partition's targets."""

    def __init__(self, state: PartitionState, incidents: Incidents) -> None:
        self._state = state
        self._incidents = incidents

    def order(
        self,
        tenant: Tenant,
        target: Target,
        action: Action,
        origin: Origin,
        at_ms: int,
        *,
        spent_nanousd: int,
        expires_ms: int = 0,
    ) -> None:
        """Command a target for what happened at `at_ms`, unless something as strong already stands.

        Nor is it ordered again for what an operator has released it from. Beyond the blast-radius limit kills are held.
        """
        now_ms = self._state.now_ms
        brake = tenant.brakes.get((target.type, target.id))
        if brake is not None and brake.stands(now_ms) and STRENGTH[brake.action] >= STRENGTH[action]:
            return
        if brake is not None and brake.state == "released" and brake.incident_id == origin.incident_id:
            return
        if action == "kill" and not self._within_blast_radius(tenant, now_ms):
            self._held(tenant, target, origin, at_ms)
            return
        if brake is None:
            brake = tenant.brakes[target.type, target.id] = Brake(tenant.tenant_id, target.type, target.id)
            tenant.braked.add(target.id)
        brake.move("order")
        brake.action = action
        brake.incident_id, brake.rule, brake.reason, brake.owner = origin
        brake.cause_ms = at_ms
        brake.issued_ms = now_ms
        brake.expires_ms = expires_ms or now_ms + KILL_STANDS_MS
        brake.deadline_ms = now_ms + self._state.policy.header.ack_deadline_seconds * 1000
        brake.cost_nanousd = spent_nanousd
        brake.acked_ms = 0
        self._send(tenant, brake, "engine")
        self._wait(tenant, brake)

    def joined(self, tenant: Tenant, run: Run, at_ms: int) -> None:
        """A run turns out to be one of a stopped tree. Its guard does not know the tree, so that the run is told."""
        tree = tenant.brakes.get(("run_tree", run.root_run_id))
        if tree is None or run.declared_root or run.state != "live" or not tree.stands(self._state.now_ms):
            return
        expires_ms = 0 if tree.action == "kill" else tree.expires_ms
        self.order(
            tenant, Target("run", run.unit_id), tree.action, tree.origin, at_ms,
            spent_nanousd=run.cost_nanousd, expires_ms=expires_ms,
        )  # fmt: skip

    def release(
        self, tenant: Tenant, target_type: TargetType, target_id: str, why: str, at_ms: int, ordered_ms: int
    ) -> None:
        """An operator lets a target go on. Without a standing command there is nothing to lift.

        Nor does an old order, read again, lift a command that was given after it.
        """
        brake = tenant.brakes.get((target_type, target_id))
        if brake is None or ordered_ms + CLOCKS_DIFFER_MS < brake.issued_ms or not brake.move("release"):
            return
        brake.action = "resume"
        brake.reason = why
        brake.issued_ms = brake.cause_ms = at_ms
        brake.expires_ms = at_ms + KILL_STANDS_MS
        self._send(tenant, brake, "operator")
        self._wait(tenant, brake)
        self._incidents.resolve_unit(tenant, brake.after_kill, at_ms, {"released": why})

    def relieve(self, tenant: Tenant, incident_id: str, at_ms: int) -> None:
        """What a run was held back for is over: pauses and downgrades end at once. A kill is for people to lift."""
        for key in sorted(tenant.brakes):
            brake = tenant.brakes[key]
            held = brake.incident_id == incident_id and brake.stands(self._state.now_ms)
            if held and brake.action in ("pause", "downgrade") and brake.move("release"):
                brake.action = "resume"
                brake.reason = "the limit was raised"
                brake.incident_id = ""  # reaching the new limit stops it again
                brake.issued_ms = brake.cause_ms = max(at_ms, self._state.now_ms)
                self._send(tenant, brake, "engine")
                self._wait(tenant, brake)

    def acknowledge(self, tenant: Tenant, ack: CommandAck, at_ms: int) -> None:
        """A guard has answered."""
        brake = tenant.commands.get(ack.command_id)
        if brake is None or ack.acted == "ignored" or not brake.move("ack"):
            return
        brake.acked_ms = at_ms
        self._state.touch(brake)
        self._incidents.resolve_unit(tenant, brake.after_kill, at_ms, self.stop_evidence(tenant, brake))

    def target_ended(self, tenant: Tenant, target_type: TargetType, target_id: str, at_ms: int) -> None:
        """A target is over, whatever its guard did: it spends no more."""
        brake = tenant.brakes.get((target_type, target_id))
        if brake is not None:
            self._incidents.resolve_unit(tenant, brake.after_kill, at_ms, self.stop_evidence(tenant, brake))

    def call_seen(self, tenant: Tenant, run: Run, call: LlmCall | ToolCall, at_ms: int) -> None:
        """A run has made a call while commands stand: was it one that should have been dead?"""
        braked = tenant.braked
        if run.unit_id not in braked and run.root_run_id not in braked and run.session_id not in braked:
            return
        for brake in tenant.brakes_of(run):
            if brake.action == "kill" and brake.stands(self._state.now_ms):
                for rule in self._state.policy.brake_rules:
                    finding = rule.call_after(brake, call, self._overshoot(tenant, brake), self._state.now_ms)
                    self._tell(tenant, rule, finding, brake, run, at_ms, about_run=True)

    def due(self, tenant: Tenant, target_type: TargetType, target_id: str, now_ms: int) -> None:
        """A brake's time has come: its answer is late, or its command has run out."""
        brake = tenant.brakes.get((target_type, target_id))
        if brake is None or brake.due_ms != now_ms:
            return
        if now_ms >= brake.expires_ms:
            brake.move("expire")
            self._incidents.resolve_unit(tenant, brake.after_kill, now_ms, {"command_id": brake.command_id})
            del tenant.brakes[target_type, target_id]
            tenant.braked = {braked_id for _, braked_id in tenant.brakes}
            tenant.commands.pop(brake.command_id, None)
            self._state.forget(brake)
            return
        if brake.state == "ordered" and now_ms >= brake.deadline_ms:
            brake.move("deadline")
            self._unanswered(tenant, brake, now_ms)
        self._wait(tenant, brake)

    def stop_evidence(self, tenant: Tenant, brake: Brake) -> dict[str, Any]:
        """What a stop has cost and how long it took."""
        evidence: dict[str, Any] = {
            "command_id": brake.command_id,
            "overshoot_nanousd": self._overshoot(tenant, brake),
        }
        if brake.acked_ms:
            evidence["cause_to_stop_ms"] = brake.acked_ms - brake.cause_ms
        return evidence

    def _send(self, tenant: Tenant, brake: Brake, signer: KeyId) -> None:
        tenant.commands.pop(brake.command_id, None)
        # Not just one more: a guard remembers the highest it has seen when this brake is long forgotten.
        brake.seq = max(brake.seq, self._state.now_ms) + 1
        brake.command_id = derived_id(
            tenant.tenant_id, brake.target_type, brake.target_id, brake.action, brake.incident_id, brake.seq
        )
        tenant.commands[brake.command_id] = brake
        command = Command(
            command_id=brake.command_id,
            action=brake.action,
            tenant_id=tenant.tenant_id,
            target=Target(brake.target_type, brake.target_id),
            reason=brake.reason,
            rule=brake.rule,
            incident_id=brake.incident_id,
            issued_ms=brake.issued_ms,
            expires_ms=brake.expires_ms,
            seq=brake.seq,
            cause_event_id=self._state.cause_event_id,
            cause_ts_ms=brake.cause_ms,
        )
        key = control_key(tenant.tenant_id, brake.target_type, brake.target_id)
        self._state.publish(Effect("control.v1", key, command, signer))

    def _wait(self, tenant: Tenant, brake: Brake) -> None:
        brake.due_ms = brake.next_due_ms()
        tenant.wake_at(brake.due_ms, "brake", (brake.target_type, brake.target_id))
        self._state.touch(brake)

    def _unanswered(self, tenant: Tenant, brake: Brake, now_ms: int) -> None:
        run = self._still_running(tenant, brake)
        if brake.action != "kill" or run is None:
            return
        for rule in self._state.policy.brake_rules:
            finding = rule.unanswered(brake, self._overshoot(tenant, brake))
            self._tell(tenant, rule, finding, brake, run, now_ms, about_run=brake.target_type == "run")

    def _still_running(self, tenant: Tenant, brake: Brake) -> Run | None:
        """One of the runs that owe an answer, None if all have finished by themselves."""
        unit = _unit(tenant, brake)
        runs = map(tenant.run, sorted(unit.members)) if isinstance(unit, Group) else [unit]
        return next((run for run in runs if run is not None and run.state == "live"), None)

    def _tell(
        self,
        tenant: Tenant,
        rule: Detector[Any],
        finding: Finding | None,
        brake: Brake,
        run: Run,
        at_ms: int,
        *,
        about_run: bool,
    ) -> None:
        if finding is None:
            return
        subject = Subject(
            key=(brake.target_type, brake.target_id, brake.seq),
            scope={"tenant_id": tenant.tenant_id, brake.target_type: brake.target_id},
            owner=brake.owner,
            run_id=run.unit_id if about_run else None,
            run=run,
            unit_id=brake.after_kill,
        )
        self._incidents.tell(tenant, rule, finding, subject, at_ms)

    def _overshoot(self, tenant: Tenant, brake: Brake) -> int:
        unit = _unit(tenant, brake)
        return 0 if unit is None else max(0, unit.cost_nanousd - brake.cost_nanousd)

    def _held(self, tenant: Tenant, target: Target, origin: Origin, at_ms: int) -> None:
        """One kill too many: page once an hour instead, because a bad price table looks like that."""
        limit = self._state.policy.header.blast_radius
        hour_ms = self._state.now_ms - self._state.now_ms % HOUR_MS
        finding = Finding(
            level=1.0,
            severity=BLAST_RADIUS.settings.severity,
            value=len(tenant.kill_times_ms),
            limit=limit.max_kills_per_minute,
            unit="kills",
            summary=f"{tenant.tenant_id}: {len(tenant.kill_times_ms)} kills within a minute; more are held back",
            next_action="Look for a bad price or rule; kill by hand what must die, or raise blast_radius.",
            evidence={"held_target": f"{target.type}/{target.id}", "held_rule": origin.rule},
        )
        subject = Subject(
            key=(hour_ms,),
            scope={"tenant_id": tenant.tenant_id},
            owner=None,
            window_start_ms=hour_ms,
            window_end_ms=hour_ms + HOUR_MS,
        )
        self._incidents.tell(tenant, BLAST_RADIUS, finding, subject, at_ms)

    def _within_blast_radius(self, tenant: Tenant, at_ms: int) -> bool:
        """Whether one more kill stays within the policy's limits, and if so count it."""
        limit = self._state.policy.header.blast_radius
        recent = [killed_ms for killed_ms in tenant.kill_times_ms if killed_ms > at_ms - MINUTE_MS]
        share = (len(recent) + 1) / max(1, len(tenant.runs))
        if len(recent) >= limit.always_allowed and (
            len(recent) >= limit.max_kills_per_minute or share > limit.max_share_of_live_runs
        ):
            return False
        tenant.kill_times_ms = [*recent, at_ms]
        self._state.touch(tenant)
        return True


def _unit(tenant: Tenant, brake: Brake) -> Run | Group | None:
    match brake.target_type:
        case "run":
            return tenant.run(brake.target_id)
        case "session":
            return tenant.sessions.get(brake.target_id)
        case "run_tree":
            return tenant.trees.get(brake.target_id)
        case _:
            return None
