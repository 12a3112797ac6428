"""One fact, one page: when a rule stops run after run of a workflow, or run after run goes on after its kill, the
incident is about the workflow.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from models.commands.commands import overshoot
from models.commands.standing import StandingCommand
from models.detectors.base import Detector
from models.identity import derived_id
from models.incidents.incident import Incident, Subject
from models.incidents.incidents import Incidents
from models.rules.finding import Finding
from models.state.partition import PartitionState
from models.state.tenant import Tenant
from schemas.duration import HOUR_MS
from schemas.money import format_usd
from schemas.policy import Action
from schemas.usage import UNATTRIBUTED

OWN_PAGES: Final = 3
"""So many runs of a workflow that one rule finds within an hour have an incident each; the next ones share one."""
ASPECT: Final = "workflow"
LATEST_RUNS: Final = 5
MOST_REMEMBERED: Final = 1_000


class WorkflowStops:
    """Counts which rule has stopped runs of which workflow within the last hour, or found that they go on."""

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
        shared = self._of_workflow(tenant, workflow, subject)
        incident = self._incidents.find(tenant, rule, shared.key, ASPECT)
        stopped_for = self._stopped_for(tenant, subject.run_id, action)
        spent_nanousd = int(_evidence(incident).get("stopped_nanousd", 0))
        if stopped_for == self._incidents.id_of(tenant, rule, shared.key, ASPECT):
            return shared, _counted(finding, incident, None, workflow, spent_nanousd)
        if stopped_for is not None:
            return subject, finding
        if incident is None:
            if not self._note_run(tenant, _short(rule.rule, workflow), subject.run_id):
                return subject, finding
            self._incidents.forget_ended(tenant, rule, shared.key, ASPECT)
            spent_nanousd = self._spent_by_stopped(tenant, rule, workflow)
        spent_nanousd += int(finding.evidence.get("cost_nanousd", 0))
        return shared, _counted(finding, incident, subject.run_id, workflow, spent_nanousd)

    def about_disobedience(
        self,
        tenant: Tenant,
        rule: Detector[Any],
        finding: Finding,
        subject: Subject,
        command: StandingCommand,
        cost_nanousd: int,
    ) -> tuple[Subject, Finding]:
        """What a finding about a kill that is not obeyed is about: its target, or the workflow if that happens too
        often. `cost_nanousd` is what the call has cost by which it was found.

        A target that counts in its workflow's incident has one of its own without an alert, which ends with the answer.
        """
        workflow = UNATTRIBUTED if subject.run is None else subject.run.attribution().get("workflow", UNATTRIBUTED)
        own = tenant.incidents.get(self._incidents.id_of(tenant, rule, subject.key))
        if own is not None and own.alert is not None:
            return subject, finding
        shared = self._of_workflow(tenant, workflow, subject, command.target_type)
        incident = self._incidents.find(tenant, rule, shared.key, ASPECT)
        if incident is None:
            going_on = f"{command.target_type}/{_short(rule.rule, workflow)}"
            if not self._note_run(tenant, going_on, command.target_id):
                return subject, finding
            self._incidents.forget_ended(tenant, rule, shared.key, ASPECT)
        latest = _evidence(incident).get("latest_runs", ())
        is_new = incident is None or (own is None and command.target_id not in latest)
        if own is None:
            self._incidents.assume(tenant, rule, finding, subject)
        if incident is None or incident.alert is None:
            spent_nanousd = self._overshoot_in(tenant, rule, workflow, command.target_type)
        else:
            spent_nanousd = int(incident.alert.value) + (overshoot(tenant, command) if is_new else cost_nanousd)
        return shared, _going_on(finding, incident, command, workflow, spent_nanousd, is_new=is_new)

    def _spent_by_stopped(self, tenant: Tenant, rule: Detector[Any], workflow: str) -> int:
        """What the workflow's runs that the rule stopped within the last hour had spent by then, in nano-dollars."""
        since_ms = self._state.now_ms - HOUR_MS
        return sum(
            command.cost_nanousd
            for command in tenant.commands.values()
            if command.target_type == "run"
            and command.origin.rule == rule.rule
            and command.issued_ms > since_ms
            and (run := tenant.peek_run(command.target_id)) is not None
            and run.attribution().get("workflow", UNATTRIBUTED) == workflow
        )

    def _overshoot_in(self, tenant: Tenant, rule: Detector[Any], workflow: str, target_type: str) -> int:
        """What all targets of the type in the workflow that go on after their kill have spent since, in nano-dollars:
        looked for once for each that is new.
        """
        spent_nanousd = 0
        for command in tenant.commands.values():
            key = disobedience_key(command)
            if command.target_type != target_type or self._incidents.id_of(tenant, rule, key) not in tenant.incidents:
                continue
            run = next(iter(tenant.live_in(command.target)), None) or tenant.run(command.target_id)
            if run is None or run.attribution().get("workflow", UNATTRIBUTED) == workflow:
                spent_nanousd += overshoot(tenant, command)
        return spent_nanousd

    def _of_workflow(self, tenant: Tenant, workflow: str, subject: Subject, *kind: str) -> Subject:
        """The workflow as what an incident is about that ends an hour after it has happened for the last time."""
        return Subject(
            key=("workflow", workflow, *kind),
            scope={"tenant_id": tenant.tenant_id, "workflow": workflow},
            owner=subject.owner,
            run=subject.run,
            ends_ms=self._state.now_ms + HOUR_MS,
        )

    def _stopped_for(self, tenant: Tenant, run_id: str, action: Action) -> str | None:
        """The incident that the run is stopped for already, None if it is not."""
        held = tenant.held.get(("run", run_id))
        if held is not None:
            return held.origin.incident_id
        command = tenant.commands.get(("run", run_id))
        if command is None or not command.covers(action, 0, self._state.now_ms):
            return None
        return command.origin.incident_id

    def _note_run(self, tenant: Tenant, key: str, run_id: str) -> bool:
        """Note one more run under what stands for a rule and a workflow. Returns whether it is more than the third
        within an hour.

        A run that is let go on and found again counts once.
        """
        since_ms = self._state.now_ms - HOUR_MS
        run = _short(run_id)
        recent = [stop for stop in tenant.stops.get(key, ()) if stop[0] > since_ms and stop[1] != run]
        if key not in tenant.stops and len(tenant.stops) >= MOST_REMEMBERED:
            tenant.stops = {k: stops for k, stops in tenant.stops.items() if stops[-1][0] > since_ms}
            if len(tenant.stops) >= MOST_REMEMBERED:
                del tenant.stops[next(iter(tenant.stops))]
        tenant.stops[key] = [*recent, (self._state.now_ms, run)][-OWN_PAGES:]
        self._state.touch(tenant)
        return len(recent) >= OWN_PAGES


def disobedience_key(command: StandingCommand) -> tuple[str | int, ...]:
    """What makes an incident about a kill that is not obeyed that one and no other."""
    return (command.target_type, command.target_id, command.issued_ms)


def _short(*names: str) -> str:
    """What stands for names in the tenant's row, as long for long ones as for short ones."""
    return derived_id(*names)[:16]


def _named(what: str, workflow: str) -> str:
    """Runs of a workflow, as a summary names them."""
    return f"{what} of {workflow}" if workflow != UNATTRIBUTED else f"{what} that name no workflow"


def _evidence(incident: Incident | None) -> Mapping[str, Any]:
    """What the workflow's incident has said so far."""
    return {} if incident is None or incident.alert is None else incident.alert.evidence


def _counted(
    finding: Finding, incident: Incident | None, run_id: str | None, workflow: str, spent_nanousd: int
) -> Finding:
    """The finding as one about the workflow: how many of its runs, what they have cost in all, and which ones last."""
    evidence = _evidence(incident)
    stopped = int(evidence.get("runs_stopped", OWN_PAGES)) + (run_id is not None)
    latest = [*evidence.get("latest_runs", ()), *([] if run_id is None else [run_id])][-LATEST_RUNS:]
    return replace(
        finding,
        level=1.0,
        aspect=ASPECT,
        summary=f"{stopped} {_named('runs', workflow)}{_in_all(spent_nanousd)} were stopped. The latest: "
        f"{finding.summary}",
        next_action="Stop whatever starts them, such as a schedule or a queue, and look at what they have in common.",
        evidence={
            **finding.evidence,
            "runs_stopped": stopped,
            "stopped_nanousd": spent_nanousd,
            "latest_runs": latest,
            "workflow": workflow,
        },
    )


def _in_all(spent_nanousd: int) -> str:
    return f" ({format_usd(spent_nanousd)} in all)" if spent_nanousd else ""


def _going_on(
    finding: Finding,
    incident: Incident | None,
    command: StandingCommand,
    workflow: str,
    spent_nanousd: int,
    *,
    is_new: bool,
) -> Finding:
    """The finding as one about the workflow: how many of its runs go on, which ones last, and what that has cost."""
    evidence = _evidence(incident)
    count = int(evidence.get("runs_going_on", OWN_PAGES)) + is_new
    latest = [*evidence.get("latest_runs", ()), *([command.target_id] if is_new else [])][-LATEST_RUNS:]
    what = _named(f"{command.target_type.replace('_', ' ')}s", workflow)
    return replace(
        finding,
        aspect=ASPECT,
        value=spent_nanousd,
        summary=f"{count} killed {what} went on: {format_usd(spent_nanousd)} spent since their kills"
        if spent_nanousd
        else f"Nobody acknowledged the kills of {count} {what}; nothing was spent since",
        next_action="Revoke the model key that they use, or stop what runs them; then find out why their guards did "
        "not act.",
        evidence={
            **finding.evidence,
            "runs_going_on": count,
            "latest_runs": latest,
            "overshoot_nanousd": spent_nanousd,
            "is_silent": not spent_nanousd,
            "workflow": workflow,
        },
    )
