"""What an open incident about a limit comes to by now: reminders and the end quote today's figures."""

from dataclasses import replace
from typing import Any

import msgspec

from models.commands.standing import target_of
from models.detectors.base import Detector, ScopeDetector, UnitDetector
from models.incidents.incident import Incident
from models.rules.finding import Finding
from models.rules.policy import Policy
from models.state.tenant import Tenant
from schemas.alert import Alert

MOST_OWNERS = 20


def with_figures_of_now(tenant: Tenant, incident: Incident, alert: Alert, policy: Policy) -> Alert:
    """The alert with what its unit or scope has used up by now, unchanged where its rule would not say it any more."""
    rule = policy.rules.get(incident.rule)
    found = None if rule is None or not rule.follows_limits else _finding(tenant, incident, alert, rule, policy)
    if found is None or found.level < incident.level:
        return alert
    return msgspec.structs.replace(
        alert,
        value=found.value, limit=found.limit, ratio=found.ratio, summary=found.summary,
        evidence={**alert.evidence, **found.evidence},
    )  # fmt: skip


def _finding(tenant: Tenant, incident: Incident, alert: Alert, rule: Detector[Any], policy: Policy) -> Finding | None:
    if isinstance(rule, UnitDetector) and incident.unit_id is not None:
        return _about_unit(tenant, incident, incident.unit_id, rule)
    if isinstance(rule, ScopeDetector):
        return _about_scope(tenant, alert, rule, policy)
    return None


def _about_unit(tenant: Tenant, incident: Incident, unit_id: str, rule: UnitDetector[Any]) -> Finding | None:
    target_type, target_id = target_of(unit_id)
    unit = tenant.run(target_id) if target_type == "run" else tenant.group(target_type, target_id)
    if unit is None:
        return None
    return next((finding for finding in rule.judge(unit, None) if finding.aspect == incident.aspect), None)


def _about_scope(tenant: Tenant, alert: Alert, rule: ScopeDetector[Any], policy: Policy) -> Finding | None:
    meter_id = next(meter_id for meter_id, rules in policy.scope_rules.items() if rule in rules)
    values = [alert.scope.get(name, "") for name in policy.meters[meter_id].group_by]
    scope = tenant.scopes.get((meter_id, *values))
    if scope is None or rule.period() not in scope.periods:
        return None
    if scope.window(rule.period()).start_ms != alert.window_start_ms:
        return None
    finding = next(iter(rule.judge(scope)), None)
    if finding is None or scope.shares is None:
        return finding
    spent = list(scope.spent_by_owner(rule.period()).items())[:MOST_OWNERS]
    owners = [{"owner": owner, "cost_nanousd": nanousd} for owner, nanousd in spent]
    return replace(finding, evidence={**finding.evidence, "owners": owners})
