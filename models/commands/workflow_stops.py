"""One fact, one page: when a rule stops run after run of a workflow, the incident is about the workflow."""

from dataclasses import replace
from typing import Any, Final

from models.detectors.base import Detector
from models.identity import derived_id
from models.incidents.incident import Incident, Subject
from models.incidents.incidents import Incidents
from models.rules.finding import Finding
from models.state.partition import PartitionState
from models.state.tenant import Tenant
from schemas.duration import HOUR_MS
from schemas.policy import Action

OWN_PAGES: Final = 3
"""So many runs of a workflow stopped by one rule within an hour have an incident each; the next ones share one."""
ASPECT: Final = "workflow"
LATEST_RUNS: Final = 5
MOST_REMEMBERED: Final = 1_000


class WorkflowStops:
    """Counts which rule has stopped runs of which workflow within the last hour."""

    def __init__(self, state: PartitionState, incidents: Incidents) -> None:
        self._state = state
        self._incidents = incidents

    def about(
        self, tenant: Tenant, rule: Detector[Any], finding: Finding, subject: Subject, action: Action
    ) -> tuple[Subject, Finding]:
        """What a finding that stops a run is about: the run, or its workflow if that was stopped too often."""
        if action not in ("kill", "pause") or subject.run_id is None:
            return subject, finding
        workflow = subject.scope.get("workflow", "")
        shared = Subject(
            key=("workflow", workflow),
            scope={"tenant_id": tenant.tenant_id, "workflow": workflow},
            owner=subject.owner,
            run=subject.run,
            ends_ms=self._state.now_ms + HOUR_MS,
        )
        incident = self._incidents.find(tenant, rule, shared.key, ASPECT)
        stopped_for = self._stopped_for(tenant, subject.run_id, action)
        if stopped_for == self._incidents.id_of(tenant, rule, shared.key, ASPECT):
            return shared, _counted(finding, incident, None, workflow)
        if stopped_for is not None:
            return subject, finding
        if incident is None and not self._note_stop(tenant, rule, workflow, subject.run_id):
            return subject, finding
        return shared, _counted(finding, incident, subject.run_id, workflow)

    def _stopped_for(self, tenant: Tenant, run_id: str, action: Action) -> str | None:
        """The incident that the run is stopped for already, None if it is not."""
        held = tenant.held.get(("run", run_id))
        if held is not None:
            return held.origin.incident_id
        command = tenant.commands.get(("run", run_id))
        if command is None or not command.covers(action, 0, self._state.now_ms):
            return None
        return command.origin.incident_id

    def _note_stop(self, tenant: Tenant, rule: Detector[Any], workflow: str, run_id: str) -> bool:
        """Note one more run that is stopped. Returns whether it is more than the third within an hour.

        A run that is let go on and stopped again counts once.
        """
        since_ms = self._state.now_ms - HOUR_MS
        key, run = _short(rule.rule, workflow), _short(run_id)
        recent = [stop for stop in tenant.stops.get(key, ()) if stop[0] > since_ms and stop[1] != run]
        if key not in tenant.stops and len(tenant.stops) >= MOST_REMEMBERED:
            tenant.stops = {k: stops for k, stops in tenant.stops.items() if stops[-1][0] > since_ms}
            if len(tenant.stops) >= MOST_REMEMBERED:
                del tenant.stops[next(iter(tenant.stops))]
        tenant.stops[key] = [*recent, (self._state.now_ms, run)][-OWN_PAGES:]
        self._state.touch(tenant)
        return len(recent) >= OWN_PAGES


def _short(*names: str) -> str:
    """What stands for names in the tenant's row, as long for long ones as for short ones."""
    return derived_id(*names)[:16]


def _counted(finding: Finding, incident: Incident | None, run_id: str | None, workflow: str) -> Finding:
    """The finding as one about the workflow: how many of its runs, and which ones last."""
    evidence = {} if incident is None or incident.alert is None else incident.alert.evidence
    stopped = int(evidence.get("runs_stopped", OWN_PAGES)) + (run_id is not None)
    latest = [*evidence.get("latest_runs", ()), *([] if run_id is None else [run_id])][-LATEST_RUNS:]
    return replace(
        finding,
        level=1.0,
        aspect=ASPECT,
        summary=f"{stopped} runs of {workflow} were stopped one after another. The latest: {finding.summary}",
        next_action="Stop whatever starts them, such as a schedule or a queue, and look at what they have in common.",
        evidence={**finding.evidence, "runs_stopped": stopped, "latest_runs": latest, "workflow": workflow},
    )
