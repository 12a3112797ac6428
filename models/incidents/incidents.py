"""Opening, escalating, reminding of and resolving incidents: from findings to alerts."""

from collections.abc import Callable
from typing import Any

import msgspec

from models.commands.standing import Origin
from models.detectors.base import Detector
from models.effects import Effect
from models.identity import derived_id
from models.incidents.incident import Incident, Subject
from models.rules.finding import Finding
from models.state.partition import PartitionState
from models.state.tenant import Tenant
from schemas.alert import Alert, AlertState

Act = Callable[[Origin], None]
"""Gives commands, and says in them what they are given for."""


class Incidents:
    """The open incidents of a partition. One fact is one incident, however often it is found."""

    def __init__(self, state: PartitionState) -> None:
        self._state = state

    def tell(
        self,
        tenant: Tenant,
        rule: Detector[Any],
        finding: Finding,
        subject: Subject,
        at_ms: int,
        act: Act | None = None,
    ) -> None:
        """Open or escalate the finding's incident, unless it has been told at this level already.

        `act` gives the commands that follow. It comes first, because the alert says which command stands.
        """
        incident_id = _incident_id(tenant, rule, subject.key, finding.aspect)
        known = tenant.incidents.get(incident_id)
        if known is not None and known.alert.level >= finding.level:
            return
        if act is not None:
            act(Origin(incident_id, rule.rule, finding.summary, subject.owner))
        alert = self._alert(tenant, rule, finding, subject, incident_id, "escalated" if known else "open", at_ms)
        incident = known or Incident(tenant.tenant_id, alert, subject.unit_id, subject.window_end_ms or 0)
        if known is not None:
            evidence = {**alert.evidence, "since_ms": known.since_ms}
            alert = msgspec.structs.replace(alert, owner=alert.owner or known.alert.owner, evidence=evidence)
        incident.alert = alert
        if known is None:
            tenant.incidents[incident_id] = incident
            if subject.unit_id is not None:
                tenant.unit_incidents.setdefault(subject.unit_id, set()).add(incident_id)
        self._publish(tenant, alert)
        if subject.late:
            self.resolve(tenant, incident, self._state.now_ms, {})
        else:
            self._wait(tenant, incident, self._state.now_ms)

    def find(self, tenant: Tenant, rule: Detector[Any], key: tuple[str | int, ...]) -> Incident | None:
        """The open incident of a rule about the subject with that key."""
        return tenant.incidents.get(self.id_of(tenant, rule, key))

    def id_of(self, tenant: Tenant, rule: Detector[Any], key: tuple[str | int, ...]) -> str:
        """The id that an incident of a rule about the subject with that key has, had, or would have."""
        return _incident_id(tenant, rule, key, "")

    def due(self, tenant: Tenant, incident_id: str, now_ms: int) -> None:
        """An incident's time has come: resolve it, or say again that it is open."""
        incident = tenant.incidents.get(incident_id)
        if incident is None or incident.due_ms != now_ms:
            return
        if incident.ends_ms and incident.ends_ms <= now_ms:
            self.resolve(tenant, incident, incident.ends_ms, {})
            return
        if not incident.acknowledged and incident.alert.mode != "shadow":
            incident.reminders += 1
            self._publish(tenant, self._again(tenant, incident, "reminder", now_ms, {}))
        self._wait(tenant, incident, now_ms)

    def resolve(self, tenant: Tenant, incident: Incident, at_ms: int, evidence: dict[str, Any]) -> None:
        """Close an incident, and say so."""
        tenant.incidents.pop(incident.incident_id, None)
        if incident.unit_id is not None and (ids := tenant.unit_incidents.get(incident.unit_id)):
            ids.discard(incident.incident_id)
            if not ids:
                del tenant.unit_incidents[incident.unit_id]
        self._publish(tenant, self._again(tenant, incident, "resolved", at_ms, evidence))
        self._state.forget(incident)

    def resolve_unit(self, tenant: Tenant, unit_id: str, at_ms: int, evidence: dict[str, Any]) -> None:
        """A run, session or run tree has ended, and with it what was wrong with it."""
        for incident_id in sorted(tenant.unit_incidents.get(unit_id, ())):
            self.resolve(tenant, tenant.incidents[incident_id], at_ms, evidence)

    def acknowledge(self, tenant: Tenant, incident_id: str) -> None:
        """Somebody acts on it: no more reminders."""
        if incident := tenant.incidents.get(incident_id):
            incident.acknowledged = True
            self._state.touch(incident)

    def _wait(self, tenant: Tenant, incident: Incident, now_ms: int) -> None:
        remind_ms = now_ms + self._state.policy.header.remind_every_minutes * 60_000
        incident.due_ms = min(remind_ms, incident.ends_ms or remind_ms)
        tenant.wake_at(incident.due_ms, "incident", (incident.incident_id,))
        self._state.touch(incident)

    def _publish(self, tenant: Tenant, alert: Alert) -> None:
        self._state.publish(Effect("alerts.v1", tenant.tenant_id, alert))

    def _again(
        self, tenant: Tenant, incident: Incident, state: AlertState, at_ms: int, evidence: dict[str, Any]
    ) -> Alert:
        alert = incident.alert
        return msgspec.structs.replace(
            alert,
            alert_id=derived_id(alert.incident_id, state, alert.level, at_ms),
            state=state,
            ts_ms=at_ms,
            cause_event_id=self._state.cause_event_id if evidence else alert.cause_event_id,
            evidence={**alert.evidence, **evidence, "since_ms": incident.since_ms},
            command=tenant.command_on(alert.run_id, incident.unit_id, self._state.now_ms),
        )

    def _alert(
        self,
        tenant: Tenant,
        rule: Detector[Any],
        finding: Finding,
        subject: Subject,
        incident_id: str,
        state: AlertState,
        at_ms: int,
    ) -> Alert:
        policy = self._state.policy
        evidence = {"late": True, **finding.evidence} if subject.late else finding.evidence
        return Alert(
            alert_id=derived_id(incident_id, state, finding.level, at_ms),
            incident_id=incident_id,
            state=state,
            severity=finding.severity,
            mode=rule.settings.mode,
            rule=rule.rule,
            detector=rule.name,
            tenant_id=tenant.tenant_id,
            scope=subject.scope,
            run_id=subject.run_id,
            owner=subject.owner,
            level=finding.level,
            window_start_ms=subject.window_start_ms,
            window_end_ms=subject.window_end_ms,
            value=finding.value,
            limit=finding.limit,
            baseline=finding.baseline,
            ratio=finding.ratio,
            unit=finding.unit,
            evidence=evidence,
            summary=finding.summary,
            next_action=finding.next_action,
            ts_ms=at_ms,
            cause_event_id=self._state.cause_event_id,
            policy_version=policy.version,
            attribution={} if subject.run is None else subject.run.attribution(),
            command=tenant.command_on(subject.run_id, subject.unit_id, self._state.now_ms),
        )


def _incident_id(tenant: Tenant, rule: Detector[Any], key: tuple[str | int, ...], aspect: str) -> str:
    return derived_id(tenant.tenant_id, rule.rule, *key, aspect)
