"""control.v1: what an agent must do. Kept by compaction: the last command per target stands."""

from typing import Literal

import msgspec

from schemas.policy import Action

TargetType = Literal["run", "session", "run_tree", "workflow", "tenant"]


class Target(msgspec.Struct, frozen=True):
    """Whom a command is for."""

    type: TargetType
    id: str


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One order to one target. `seq` rises per target; a kill is lifted by nothing but an operator's resume."""

    command_id: str
    action: Action
    tenant_id: str
    target: Target
    reason: str
    rule: str
    incident_id: str
    issued_ms: int
    expires_ms: int
    seq: int
    cause_event_id: str | None
    cause_ts_ms: int
