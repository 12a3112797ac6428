"""Steer before you stop: the agent of a run is told, once, what a rule has noticed and is not sure of yet.

A nudge is no command that stands: nobody has to obey it, nothing lifts it, it counts in no limit, and no answer to it
is awaited. The rule says in its next message whether the agent had been told.
"""

from typing import Final

from models.effects import Effect
from models.incidents.incident import Incident
from models.state.partition import PartitionState
from models.state.tenant import Tenant
from models.state.units.runs import Run
from schemas.control import Command, Target
from schemas.duration import MINUTE_MS
from schemas.signing import nudge_key
from schemas.usage import CommandAck

MOST_LASTS_MS: Final = 10 * MINUTE_MS
"""What is older would be put before a model that does something else by now."""


class Nudges:
    """What the agents of a partition are told."""

    def __init__(self, state: PartitionState) -> None:
        self._state = state

    def give(self, tenant: Tenant, incident: Incident, sentence: str, run: Run, at_ms: int) -> None:
        """Tell the agent of a live run about an incident that was opened or has got worse, by what happened at `at_ms`.

        Who is stopped makes no call before which it could be told; and what is long over is no news to an agent.
        """
        now_ms, expires_ms = self._state.now_ms, at_ms + MOST_LASTS_MS
        is_stopped = tenant.action_on(run.unit_id, None, now_ms) in ("kill", "pause")
        if not run.unit_id or run.state != "live" or is_stopped or expires_ms <= now_ms:
            return
        if incident.nudged_ms == now_ms:
            return  # in the same moment, of a batch with one time: it has been told
        incident.nudged_ms, incident.nudge_delivered_ms = now_ms, 0
        command = Command(
            command_id=incident.nudge_id,
            action="nudge",
            tenant_id=tenant.tenant_id,
            target=Target("run", run.unit_id),
            reason=sentence,
            rule=incident.rule,
            incident_id=incident.incident_id,
            issued_ms=now_ms,
            expires_ms=expires_ms,
            seq=now_ms + sum(one.nudged_ms > 0 for one in self._about(tenant, run)),
            cause_event_id=self._state.cause_event_id,
            cause_ts_ms=at_ms,
        )
        self._state.publish(Effect("control.v1", nudge_key(tenant.tenant_id, run.unit_id), command, "engine"))

    def delivered(self, tenant: Tenant, ack: CommandAck, at_ms: int) -> None:
        """A guard has handed the sentence over."""
        run = tenant.run(ack.run_id)
        for incident in [] if run is None else self._about(tenant, run):
            is_answered = incident.nudge_delivered_ms > 0 or not incident.nudged_ms
            if not is_answered and incident.nudge_id == ack.command_id:
                incident.nudge_delivered_ms = at_ms
                self._state.touch(incident)

    def _about(self, tenant: Tenant, run: Run) -> list[Incident]:
        """The incidents about a run, its session and its tree."""
        units = (f"run/{run.unit_id}", f"session/{run.session_id}", f"run_tree/{run.root_run_id}")
        ids = {incident_id for unit_key in units for incident_id in tenant.unit_incidents.get(unit_key, ())}
        return [tenant.incidents[incident_id] for incident_id in sorted(ids)]
