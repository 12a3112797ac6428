"""Opening, escalating, reminding of and resolving incidents: from findings to alerts."""

from typing import Any, Final

import msgspec

from models.attribution import attribution_of
from models.detectors.base import Detector
from models.effects import Effect
from models.identity import derived_id
from models.incidents.figures import owned_as, with_figures_of_now
from models.incidents.incident import Incident, Subject
from models.rules.finding import Finding
from models.state.partition import PartitionState
from models.state.tenant import Tenant
from schemas.alert import Alert, AlertState
from schemas.duration import HOUR_MS

REMEMBERED_MS: Final = 26 * HOUR_MS
"""How long after its end an incident about a stretch of time is remembered: spend may arrive a day late."""


class Incidents:
    """The incidents of a partition. One fact is one incident, however often it is found."""

    def __init__(self, state: PartitionState) -> None:
        self._state = state

    def note(
        self, tenant: Tenant, rule: Detector[Any], finding: Finding, subject: Subject, at_ms: int
    ) -> tuple[Incident, bool] | None:
        """Enter what a rule has found, and whether that is news: opened, or worse than what was published.

        What is news is published by `publish`, once the commands that follow are given, because the alert says which
        command stands. Returns None where nothing is wrong; an incident about it is then over.
        """
        incident_id = self.id_of(tenant, rule, subject.key, finding.aspect)
        incident = tenant.incidents.get(incident_id)
        if finding.level <= 0:
            if incident is not None:
                ended = {"limit_raised": True} if rule.follows_limits else finding.evidence
                self._lower(tenant, incident, 0.0, at_ms, ended)
            return None
        if incident is not None and finding.level < incident.level and rule.follows_limits:
            self._lower(tenant, incident, finding.level, at_ms, {"limit_raised": True})
            return incident, False
        if incident is not None and finding.level <= incident.level:
            self._refresh(incident, rule, finding, subject)
            return incident, False
        state: AlertState = "open" if incident is None or incident.alert is None else "escalated"
        incident = incident or self._new(tenant, incident_id, rule.rule, finding.aspect, subject)
        incident.openings += state == "open"
        alert = self._alert(tenant, rule, finding, subject, incident, state, at_ms)
        if incident.alert is None:
            incident.opened_ms, incident.reminders, incident.acknowledged = at_ms, 0, False
            incident.nudged_ms = incident.nudge_delivered_ms = 0
        else:
            evidence = {**alert.evidence, "since_ms": incident.opened_ms}
            known = owned_as(alert, incident.alert.owner, tuple(incident.alert.owners))
            alert = owned_as(msgspec.structs.replace(known, evidence=evidence), subject.owner, subject.owners)
        incident.alert = alert
        incident.level, incident.limit = finding.level, finding.limit
        incident.ends_ms = subject.ends_ms or subject.window_end_ms or 0
        return incident, True

    def note_and_publish(
        self, tenant: Tenant, rule: Detector[Any], finding: Finding, subject: Subject, at_ms: int
    ) -> None:
        """Enter what a rule has found that commands nobody, and say so at once if it is news."""
        noted = self.note(tenant, rule, finding, subject, at_ms)
        if noted is not None and noted[1]:
            self.publish(tenant, noted[0], late=False)

    def publish(self, tenant: Tenant, incident: Incident, *, late: bool) -> None:
        """Say what `note` has entered. What is about a period that is over is over with it."""
        assert incident.alert is not None
        alert = incident.alert
        action = tenant.action_on(alert.run_id, incident.unit_key, self._state.now_ms)
        evidence = {**alert.evidence, **incident.nudge_evidence}
        incident.alert = msgspec.structs.replace(alert, command=action, evidence=evidence)
        self._publish(tenant, incident.alert)
        if late:
            self.resolve(tenant, incident, self._state.now_ms, {})
        else:
            self._remind_later(incident, incident.alert, self._state.now_ms)
            self._wait(tenant, incident)

    def find(
        self, tenant: Tenant, rule: Detector[Any], key: tuple[str | int, ...], aspect: str = ""
    ) -> Incident | None:
        """The open incident of a rule about the subject with that key."""
        incident = tenant.incidents.get(self.id_of(tenant, rule, key, aspect))
        return None if incident is None or incident.alert is None else incident

    def id_of(self, tenant: Tenant, rule: Detector[Any], key: tuple[str | int, ...], aspect: str = "") -> str:
        """The id that an incident of a rule about the subject with that key has, had, or would have."""
        return derived_id(tenant.tenant_id, rule.rule, *key, aspect)

    def due(self, tenant: Tenant, incident_id: str, now_ms: int) -> None:
        """An incident's time has come: resolve it, say again that it is open, or forget it."""
        incident = tenant.incidents.get(incident_id)
        if incident is None or incident.due_ms != now_ms:
            return
        if incident.alert is None:
            self._forget(tenant, incident)
            return
        if incident.ends_ms and incident.ends_ms <= now_ms:
            run_id = incident.alert.run_id
            self.resolve(tenant, incident, incident.ends_ms, {})
            # What a run does again after that is another fact; what has stopped it is remembered for its resume.
            if incident.unit_key is not None and tenant.action_on(run_id, incident.unit_key, now_ms) is None:
                self._forget(tenant, incident)
            return
        if incident.remind_ms and incident.remind_ms <= now_ms:
            if not incident.acknowledged and incident.alert.mode != "shadow":
                incident.reminders += 1
                self._publish(tenant, self._again(tenant, incident, incident.alert, "reminder", now_ms, {}))
            self._remind_later(incident, incident.alert, now_ms)
        self._wait(tenant, incident)

    def resolve(self, tenant: Tenant, incident: Incident, at_ms: int, evidence: dict[str, Any]) -> None:
        """Close an incident, say so, and remember at which level it was published."""
        if incident.alert is None:
            return
        self._publish(tenant, self._again(tenant, incident, incident.alert, "resolved", at_ms, evidence))
        incident.alert = None
        incident.forget_ms = 0 if incident.unit_key is not None else max(at_ms, incident.ends_ms) + REMEMBERED_MS
        incident.due_ms = incident.forget_ms
        if incident.due_ms:
            tenant.wake_at(incident.due_ms, "update", (incident.incident_id,))
        self._state.touch(incident)

    def resolve_unit(self, tenant: Tenant, unit_key: str, at_ms: int, evidence: dict[str, Any]) -> None:
        """A run, session or run tree has ended, and with it what was wrong with it."""
        for incident_id in sorted(tenant.unit_incidents.get(unit_key, ())):
            self.resolve(tenant, tenant.incidents[incident_id], at_ms, evidence)

    def forget_unit(self, tenant: Tenant, unit_key: str) -> None:
        """A unit is forgotten, and what was published of it."""
        for incident_id in sorted(tenant.unit_incidents.get(unit_key, ())):
            self._forget(tenant, tenant.incidents[incident_id])

    def forget_ended(self, tenant: Tenant, rule: Detector[Any], key: tuple[str | int, ...], aspect: str) -> None:
        """What is over is forgotten before its time: the same again is news, however soon."""
        incident = tenant.incidents.get(self.id_of(tenant, rule, key, aspect))
        if incident is not None and incident.alert is None:
            self._forget(tenant, incident)

    def release_unit(self, tenant: Tenant, unit_key: str, at_ms: int, evidence: dict[str, Any]) -> None:
        """An operator lets a unit go on: what stopped it is over, and is found anew if it comes back."""
        for incident_id in sorted(tenant.unit_incidents.get(unit_key, ())):
            incident = tenant.incidents[incident_id]
            if incident.level >= 1:
                self.resolve(tenant, incident, at_ms, evidence)
                incident.level = 0.0
                self._state.touch(incident)

    def acknowledge(self, tenant: Tenant, incident_id: str) -> None:
        """Somebody acts on it: no more reminders."""
        if incident := tenant.incidents.get(incident_id):
            incident.acknowledged = True
            self._state.touch(incident)

    def is_news(self, tenant: Tenant, rule: Detector[Any], finding: Finding, key: tuple[str | int, ...]) -> bool:
        """Whether `note` would publish the finding: asked before evidence is gathered that nobody would read."""
        incident = tenant.incidents.get(self.id_of(tenant, rule, key, finding.aspect))
        return finding.level > (0.0 if incident is None else incident.level)

    def assume(self, tenant: Tenant, rule: Detector[Any], finding: Finding, subject: Subject) -> None:
        """Take a finding for published: after a resume, what was reached before it is no news."""
        incident_id = self.id_of(tenant, rule, subject.key, finding.aspect)
        incident = tenant.incidents.get(incident_id)
        if incident is None and finding.level > 0:
            incident = self._new(tenant, incident_id, rule.rule, finding.aspect, subject)
            self._state.touch(incident)
        if incident is not None and incident.level < finding.level < 1:
            incident.level, incident.limit = finding.level, finding.limit
            self._state.touch(incident)

    def _new(self, tenant: Tenant, incident_id: str, rule: str, aspect: str, subject: Subject) -> Incident:
        incident = tenant.incidents[incident_id] = Incident(
            tenant.tenant_id, incident_id, rule, aspect, subject.unit_key
        )
        if subject.unit_key is not None:
            tenant.unit_incidents.setdefault(subject.unit_key, set()).add(incident_id)
        return incident

    def _lower(self, tenant: Tenant, incident: Incident, level: float, at_ms: int, evidence: dict[str, Any]) -> None:
        """What was published is no longer true, for the reason in `evidence`: reaching it again is news again."""
        if incident.level <= level:
            return
        self.resolve(tenant, incident, at_ms, evidence)
        incident.level = level
        self._state.touch(incident)

    def _refresh(self, incident: Incident, rule: Detector[Any], finding: Finding, subject: Subject) -> None:
        """Today's figures, for whatever is said of the incident next; nobody is told of them by themselves."""
        if incident.alert is None or finding.level < incident.level:
            return
        incident.alert = msgspec.structs.replace(
            owned_as(incident.alert, subject.owner, subject.owners),
            value=finding.value, limit=finding.limit, baseline=finding.baseline, ratio=finding.ratio,
            summary=finding.summary, window_end_ms=subject.window_end_ms,
            evidence={**incident.alert.evidence, **finding.evidence},
            policy_version=self._state.policy.version, mode=rule.settings.mode,
        )  # fmt: skip
        incident.ends_ms = max(incident.ends_ms, subject.ends_ms)
        self._state.touch(incident)

    def _forget(self, tenant: Tenant, incident: Incident) -> None:
        tenant.incidents.pop(incident.incident_id, None)
        if incident.unit_key is not None and (ids := tenant.unit_incidents.get(incident.unit_key)):
            ids.discard(incident.incident_id)
            if not ids:
                del tenant.unit_incidents[incident.unit_key]
        self._state.forget(incident)

    def _remind_later(self, incident: Incident, alert: Alert, now_ms: int) -> None:
        every_ms = self._state.policy.header.remind.after_ms(alert.severity, incident.reminders)
        incident.remind_ms = now_ms + every_ms if every_ms and not incident.acknowledged else 0

    def _wait(self, tenant: Tenant, incident: Incident) -> None:
        """Wait for the end or the next reminder. An end that was put off since is waited for once more."""
        incident.due_ms = min(incident.remind_ms or incident.ends_ms, incident.ends_ms or incident.remind_ms)
        if incident.due_ms:
            tenant.wake_at(incident.due_ms, "update", (incident.incident_id,))
        self._state.touch(incident)

    def _publish(self, tenant: Tenant, alert: Alert) -> None:
        self._state.publish(Effect("alerts.v1", tenant.tenant_id, alert))

    def _again(
        self, tenant: Tenant, incident: Incident, alert: Alert, state: AlertState, at_ms: int, evidence: dict[str, Any]
    ) -> Alert:
        alert = with_figures_of_now(tenant, incident, alert, self._state.policy)
        return msgspec.structs.replace(
            alert,
            alert_id=_alert_id(incident, state, alert.level, at_ms),
            state=state,
            ts_ms=at_ms,
            cause_event_id=self._state.cause_event_id if evidence else alert.cause_event_id,
            evidence={**alert.evidence, **incident.nudge_evidence, **evidence, "since_ms": incident.opened_ms},
            command=tenant.action_on(alert.run_id, incident.unit_key, self._state.now_ms),
        )

    def _alert(
        self,
        tenant: Tenant,
        rule: Detector[Any],
        finding: Finding,
        subject: Subject,
        incident: Incident,
        state: AlertState,
        at_ms: int,
    ) -> Alert:
        evidence = {"late": True, **finding.evidence} if subject.late else finding.evidence
        return Alert(
            alert_id=_alert_id(incident, state, finding.level, at_ms),
            incident_id=incident.incident_id,
            state=state,
            severity=finding.severity,
            mode=rule.settings.mode,
            rule=rule.rule,
            detector=rule.name,
            tenant_id=tenant.tenant_id,
            scope=subject.scope,
            run_id=subject.run_id,
            owner=subject.owner,
            owners=list(subject.owners),
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
            policy_version=self._state.policy.version,
            attribution={} if subject.run is None else attribution_of(subject.run, self._state.policy),
        )


def _alert_id(incident: Incident, state: AlertState, level: float, at_ms: int) -> str:
    """The id of what is said of an incident; another one where it was opened more than once in a millisecond."""
    again = (incident.openings,) if incident.openings > 1 else ()
    return derived_id(incident.incident_id, state, level, at_ms, *again)
