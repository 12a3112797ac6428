"""From a finding to what follows: an incident noted, commands wanted, people told. The one place where this happens."""

from collections.abc import Callable, Iterable
from typing import Any

from models.commands.commands import Commands, Stop
from models.commands.nudges import Nudges
from models.commands.standing import Origin
from models.commands.workflow_stops import WorkflowStops
from models.detectors.base import Detector
from models.incidents.incident import Subject
from models.incidents.incidents import Incidents
from models.rules.finding import Finding
from models.rules.verdict import verdict
from models.state.partition import PartitionState
from models.state.tenant import Tenant
from schemas.policy import Action


class Enforcement:
    """Judged, noted, commanded: in this order, for every kind of rule."""

    def __init__(self, state: PartitionState, incidents: Incidents, commands: Commands, nudges: Nudges) -> None:
        self._state = state
        self._incidents = incidents
        self._commands = commands
        self._nudges = nudges
        self._workflow_stops = WorkflowStops(state, incidents)

    def apply(
        self,
        tenant: Tenant,
        rule: Detector[Any],
        finding: Finding,
        subject: Subject,
        at_ms: int,
        targets: Callable[[bool, Action], Iterable[Stop]] | None = None,
    ) -> None:
        """Note a finding, command what the rule's mode and the finding ask for, then publish what is news.

        `targets` is asked for whom to command, with whether the incident is news and the action. It is asked again
        as long as the finding holds, because commands are level-triggered.
        """
        action = verdict(rule.settings.mode, finding, late=subject.late)
        if action is not None and subject.run is not None and subject.run_id is not None:
            subject, finding = self._workflow_stops.about(tenant, rule, finding, subject, action)
        before = self._open_id(tenant, rule, finding, subject) if finding.level < 1 else None
        noted = self._incidents.note(tenant, rule, finding, subject, at_ms)
        if noted is None or finding.level < 1:
            if before is not None and rule.follows_limits:
                self._commands.relieve(tenant, before, at_ms)
            if noted is None:
                return
        incident, is_news = noted
        if action is not None and targets is not None and finding.level >= 1:
            origin = Origin(incident.incident_id, rule.rule, finding.summary, subject.owner)
            for stop in targets(is_news, action):
                self._commands.want(tenant, stop, action, origin, at_ms)
        tells = is_news and action is None and rule.settings.mode != "shadow"
        if tells and finding.nudge and subject.run is not None:
            self._nudges.give(tenant, incident, finding.nudge, subject.run, at_ms)
        if is_news:
            self._incidents.publish(tenant, incident, late=subject.late)

    def _open_id(self, tenant: Tenant, rule: Detector[Any], finding: Finding, subject: Subject) -> str | None:
        """The incident that commands may have been given for, if the limit was exceeded so far."""
        incident = tenant.incidents.get(self._incidents.id_of(tenant, rule, subject.key, finding.aspect))
        return incident.incident_id if incident is not None and incident.level >= 1 else None
