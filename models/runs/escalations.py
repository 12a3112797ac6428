"""Premium calls of runs that were announced on another route, or began without one: counted, told, and downgraded."""

from collections.abc import Callable, Iterable
from typing import Any

from models.commands.commands import Stop
from models.commands.enforcement import Enforcement
from models.detectors.base import EscalationDetector
from models.incidents.incident import Subject
from models.state.partition import PartitionState
from models.state.spend.escalations import Escalations
from models.state.spend.results import day_of
from models.state.tenant import Tenant
from models.state.units.route import Route
from models.state.units.runs import Run
from schemas.control import Target
from schemas.policy import Action
from schemas.usage import UNATTRIBUTED, LlmCall


class EscalationWatch:
    """The escalations of a partition's workflows."""

    def __init__(self, state: PartitionState, enforcement: Enforcement) -> None:
        self._state = state
        self._enforcement = enforcement

    def premium_call(
        self, tenant: Tenant, run: Run, route: Route, call: LlmCall, cost_nanousd: int, at_ms: int
    ) -> None:
        """A run has made a premium call, which is counted in it already."""
        if not _is_escalation(run, call):
            return
        day = self._day(tenant, route.workflow)
        self._state.touch(day)
        reason = call.escalation_reason or (f"fallback from {call.fallback_from}" if call.fallback_from else "")
        if reason := reason or run.escalation or "":
            run.escalation = reason
            if day.explain(reason, cost_nanousd):
                self._judge(tenant, route.escalation_rules, day, run, route, at_ms)
            return
        is_first, run.escalation = run.escalation is None, ""
        is_due = day.add(run.unit_id, call.model, cost_nanousd, is_first=is_first)
        rules = [rule for rule in route.escalation_rules if is_due or rule.limit_action is not None]
        self._judge(tenant, rules, day, run, route, at_ms)

    def due(self, tenant: Tenant, workflow: str, now_ms: int) -> None:
        """A day is over: what was told of it ends with all that it came to, and the next one begins from nothing."""
        day = tenant.escalations.get(workflow)
        if day is None or day.end_ms > now_ms:
            return
        for name in day.rules:
            rule = self._state.policy.rules.get(name)
            if isinstance(rule, EscalationDetector) and (finding := rule.judge(day)) is not None:
                self._enforcement.apply(tenant, rule, finding, _subject(tenant, day, None, None), now_ms)
        del tenant.escalations[workflow]
        self._state.forget(day)

    def _judge(
        self,
        tenant: Tenant,
        rules: Iterable[EscalationDetector[Any]],
        day: Escalations,
        run: Run,
        route: Route,
        at_ms: int,
    ) -> None:
        subject = _subject(tenant, day, run, None if route.owner == UNATTRIBUTED else route.owner)
        for rule in rules:
            if (finding := rule.judge(day)) is not None:
                if rule.rule not in day.rules:
                    day.rules.append(rule.rule)
                self._enforcement.apply(tenant, rule, finding, subject, at_ms, _targets(rule, run))

    def _day(self, tenant: Tenant, workflow: str) -> Escalations:
        """Today's escalations of a workflow, by the tenant's clock."""
        day = tenant.escalations.get(workflow)
        if day is None:
            day = tenant.escalations[workflow] = Escalations(tenant.tenant_id, workflow, day_of(self._state.now_ms))
            tenant.wake_at(day.end_ms, day.kind, (workflow,))
        return day


def _is_escalation(run: Run, call: LlmCall) -> bool:
    """Whether nobody could expect the call to be premium. What was announced is none, however the run began."""
    if run.expected_route is not None and run.expected_route in (call.route, call.model):
        return False
    if run.escalation is not None or (run.premium_calls == 1 and run.calls > 1):
        return True
    return run.expected_route is not None and call.route is not None


def _subject(tenant: Tenant, day: Escalations, run: Run | None, owner: str | None) -> Subject:
    return Subject(
        key=("workflow", day.workflow, day.start_ms),
        scope={"tenant_id": tenant.tenant_id, "workflow": day.workflow},
        owner=owner,
        run=run,
        window_start_ms=day.start_ms,
        window_end_ms=day.end_ms,
    )


def _targets(rule: EscalationDetector[Any], run: Run) -> Callable[[bool, Action], Iterable[Stop]]:
    """Whom to send back: the run, unless it has given a reason, or a person has let it go on."""

    def targets(_is_news: bool, _action: Action) -> Iterable[Stop]:
        if run.state == "live" and not run.escalation and run.grant(rule.rule) is None:
            yield Stop(Target("run", run.unit_id), run.cost_nanousd)

    return targets
