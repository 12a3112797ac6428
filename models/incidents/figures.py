"""What an open incident about a limit comes to by now, and whose it is: reminders and the end quote today's figures."""

from typing import Any

import msgspec

from models.attribution import attribution_of
from models.commands.standing import target_of
from models.detectors.base import ScopeDetector, UnitDetector
from models.incidents.incident import Incident
from models.rules.finding import Finding
from models.rules.policy import Policy
from models.spend.ownership import owners_of, shares_as_evidence
from models.state.tenant import Tenant
from models.state.units.runs import Run
from models.state.units.unit import Unit
from schemas.alert import Alert


def with_figures_of_now(tenant: Tenant, incident: Incident, alert: Alert, policy: Policy) -> Alert:
    """The alert with what its unit or scope has used up by now, unchanged where its rule would not say it any more."""
    rule = policy.rules.get(incident.rule)
    if rule is None or not rule.follows_limits:
        return alert
    if isinstance(rule, UnitDetector) and incident.unit_key is not None:
        unit = tenant.unit(*target_of(incident.unit_key))
        return alert if unit is None else _about_unit(unit, incident, alert, rule, policy)
    if isinstance(rule, ScopeDetector):
        return _about_scope(tenant, incident, alert, rule, policy)
    return alert


def owned_as(alert: Alert, owner: str | None, owners: tuple[str, ...]) -> Alert:
    """The alert as theirs; unchanged where nobody is known to own it by now."""
    if owner is None and not owners:
        return alert
    return msgspec.structs.replace(alert, owner=owner, owners=list(owners))


def _about_unit(unit: Unit, incident: Incident, alert: Alert, rule: UnitDetector[Any], policy: Policy) -> Alert:
    found = next((finding for finding in rule.judge(unit, None) if finding.aspect == incident.aspect), None)
    owner = attribution_of(unit, policy).get("owner") if isinstance(unit, Run) else None
    return owned_as(_quoting(alert, incident, found), owner, ())


def _about_scope(tenant: Tenant, incident: Incident, alert: Alert, rule: ScopeDetector[Any], policy: Policy) -> Alert:
    meter_id = next(meter_id for meter_id, rules in policy.scope_rules.items() if rule in rules)
    values = [alert.scope.get(name, "") for name in policy.meters[meter_id].group_by]
    scope = tenant.scopes.get((meter_id, *values))
    if scope is None or rule.period() not in scope.periods:
        return alert
    window = scope.window(rule.period())
    if window.start_ms != alert.window_start_ms:
        return alert
    quoting = _quoting(alert, incident, next(iter(rule.judge(scope)), None))
    evidence = {**quoting.evidence, **shares_as_evidence(scope, rule, window)}
    return owned_as(msgspec.structs.replace(quoting, evidence=evidence), *owners_of(scope, rule, window))


def _quoting(alert: Alert, incident: Incident, finding: Finding | None) -> Alert:
    """The alert with the figures of a finding, unless a raised limit or a new allowance has made it untrue."""
    if finding is None or finding.level < incident.level:
        return alert
    return msgspec.structs.replace(
        alert,
        value=finding.value, limit=finding.limit, ratio=finding.ratio, summary=finding.summary,
        evidence={**alert.evidence, **finding.evidence},
    )  # fmt: skip
