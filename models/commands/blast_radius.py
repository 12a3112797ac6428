"""How many runs of a tenant may be killed at once: a bad price table looks like a fleet that must die."""

from typing import Final

from models.rules.finding import Finding
from models.rules.service_rules import BLAST_RADIUS
from models.state.tenant import Tenant
from schemas.duration import MINUTE_MS
from schemas.policy import BlastRadius

MOST_KILLS: Final = 20_000
"""Kills within a minute beyond which no policy goes: their times stand in the tenant's row."""


def admit(tenant: Tenant, limit: BlastRadius, now_ms: int) -> bool:
    """Count one more kill if it stays within the limits. Returns whether it does."""
    recent = [killed_ms for killed_ms in tenant.kill_times_ms if killed_ms > now_ms - MINUTE_MS]
    share = (len(recent) + 1) / max(1, tenant.live_runs)
    beyond = len(recent) >= limit.max_kills_per_minute or share > limit.max_share_of_live_runs
    if len(recent) >= MOST_KILLS or (len(recent) >= limit.always_allowed and beyond):
        return False
    tenant.kill_times_ms = [*recent, now_ms]
    return True


def retry_ms(tenant: Tenant, now_ms: int) -> int:
    """When the limit may allow one more kill: once the oldest of the last minute is a minute old."""
    oldest_ms = min((at_ms for at_ms in tenant.kill_times_ms if at_ms > now_ms - MINUTE_MS), default=now_ms)
    return oldest_ms + MINUTE_MS


def finding(tenant: Tenant, limit: BlastRadius, held: str, rule: str) -> Finding:
    """That kills are held back."""
    kills = len(tenant.kill_times_ms)
    return Finding(
        level=1.0,
        severity=BLAST_RADIUS.settings.severity,
        value=kills,
        limit=limit.max_kills_per_minute,
        unit="kills",
        summary=f"{tenant.tenant_id}: {kills} kills within a minute; more are held back until the limit allows them",
        next_action="Look for a bad price or rule. Held kills follow minute by minute; raise blast_radius to give them "
        "at once, or kill by hand.",
        evidence={"held_target": held, "held_rule": rule, "held": len(tenant.held)},
    )
