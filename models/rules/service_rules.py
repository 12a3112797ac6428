"""Rules that nobody writes into a policy: what the service says of itself."""

from typing import ClassVar

from models.detectors.base import Detector
from schemas.policy import RuleSettings


class ServiceRule(Detector[RuleSettings]):
    """A fixed rule; the engine finds, this names."""

    settings_class: ClassVar[type[RuleSettings]] = RuleSettings


class BlastRadiusRule(ServiceRule):
    """Too many runs of a tenant would be killed at once."""

    name = "blast_radius"


class LiveRunsRule(ServiceRule):
    """A tenant has more live runs than are watched one by one."""

    name = "live_runs"


class ForgottenRunsRule(ServiceRule):
    """A tenant has more sleeping runs than are remembered."""

    name = "forgotten_runs"


class ForgedCommandRule(ServiceRule):
    """Somebody else writes commands, or deletes them."""

    name = "forged_command"


class TenantsRule(ServiceRule):
    """A partition has more tenants than are known one by one."""

    name = "tenants"


BLAST_RADIUS = BlastRadiusRule(RuleSettings(name="blast-radius", severity="critical"))
LIVE_RUNS = LiveRunsRule(RuleSettings(name="live-runs", severity="error"))
FORGOTTEN_RUNS = ForgottenRunsRule(RuleSettings(name="forgotten-runs", severity="error"))
FORGED_COMMAND = ForgedCommandRule(RuleSettings(name="forged-command", severity="critical"))
TENANTS = TenantsRule(RuleSettings(name="tenants", severity="critical"))
SERVICE_RULES = frozenset({BLAST_RADIUS.rule, LIVE_RUNS.rule, FORGOTTEN_RUNS.rule, FORGED_COMMAND.rule, TENANTS.rule})
"""Their names."""
