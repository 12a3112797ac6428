"""Rules that nobody writes into a policy: what the service says of itself."""

from typing import Any, ClassVar

from models.detectors.base import Detector
from models.rules.finding import Finding
from schemas.control import Target
from schemas.policy import RuleSettings


class ServiceRule(Detector[RuleSettings]):
    """A fixed rule: the engine sees when it is broken, and this says so."""

    settings_class: ClassVar[type[RuleSettings]] = RuleSettings

    def _found(
        self,
        value: int,
        unit: str,
        summary: str,
        next_action: str,
        limit: int | None = None,
        evidence: dict[str, Any] | None = None,
    ) -> Finding:
        """The rule is broken by so much, at its own severity."""
        return Finding(
            level=1.0,
            severity=self.settings.severity,
            value=value,
            unit=unit,
            summary=summary,
            next_action=next_action,
            limit=limit,
            evidence=evidence or {},
        )


class BlastRadiusRule(ServiceRule):
    """Too many runs of a tenant would be killed at once."""

    name = "blast_radius"


class LiveRunsRule(ServiceRule):
    """A tenant has more live runs than are watched one by one."""

    name = "live_runs"

    def finding(self, tenant_id: str, runs: int, limit: int) -> Finding:
        """One more than the `limit` has begun, beside `runs` that are watched."""
        return self._found(
            value=runs,
            limit=limit,
            unit="runs",
            summary=f"{tenant_id} has more than {limit:,} live runs: further ones are charged, not watched",
            next_action="Look for made-up run ids; raise max_live_runs_per_tenant if the runs are real.",
        )


class ForgottenRunsRule(ServiceRule):
    """A tenant has more sleeping runs than are remembered."""

    name = "forgotten_runs"

    def finding(self, tenant_id: str, units: int, limit: int) -> Finding:
        """Of more than the `limit` the oldest are forgotten; `units` are left."""
        return self._found(
            value=units,
            limit=limit,
            unit="runs",
            summary=f"{tenant_id} has more than {limit:,} sleeping runs and sessions: the oldest are forgotten, and "
            "their limits with them",
            next_action="Raise max_remembered_runs_per_tenant if the runs are real; look for made-up run ids.",
        )


class ForgedCommandRule(ServiceRule):
    """Somebody else writes commands, or deletes them."""

    name = "forged_command"

    def finding(self, tenant_id: str, target: Target, how: str) -> Finding:
        """Somebody has written something about the target; `how` says what, in words that follow `somebody`."""
        return self._found(
            value=1,
            unit="records",
            summary=f"{tenant_id}: somebody {how} on control.v1, about the {target.type} {target.id}. No guard with "
            "keys obeys it",
            next_action="Find out who may write control.v1, and take that right away: docs/runbooks/forged-commands.md",
            evidence={"target": f"{target.type}/{target.id}", "how": how},
        )


class TenantsRule(ServiceRule):
    """A partition has more tenants than are known one by one."""

    name = "tenants"

    def finding(self, tenants: int, limit: int, latest: str, overflow: str) -> Finding:
        """The `latest` tenant is one too many beside the `tenants` that are known: it counts as the one named
        `overflow`.
        """
        return self._found(
            value=tenants,
            limit=limit,
            unit="tenants",
            summary=f"More than {limit:,} tenants on one partition: what further ones spend counts as the tenant "
            f"{overflow}, and their runs are not watched. One of them: {latest}",
            next_action="Look for made-up tenant ids; raise max_tenants_per_partition if the tenants are real.",
            evidence={"tenant": latest},
        )


BLAST_RADIUS = BlastRadiusRule(RuleSettings(name="blast-radius", severity="critical"))
LIVE_RUNS = LiveRunsRule(RuleSettings(name="live-runs", severity="error"))
FORGOTTEN_RUNS = ForgottenRunsRule(RuleSettings(name="forgotten-runs", severity="error"))
FORGED_COMMAND = ForgedCommandRule(RuleSettings(name="forged-command", severity="critical"))
TENANTS = TenantsRule(RuleSettings(name="tenants", severity="critical"))
SERVICE_RULES = frozenset({BLAST_RADIUS.rule, LIVE_RUNS.rule, FORGOTTEN_RUNS.rule, FORGED_COMMAND.rule, TENANTS.rule})
"""Their names."""
