"""A command that is wanted and held back by the blast-radius limit, until the limit allows it or its reason is gone."""

from typing import Any

from models.commands.standing import Origin
from models.state.rows import Row
from schemas.control import Target, TargetType
from schemas.policy import Action


class HeldCommand(Row):
    """What one target is to be commanded as soon as the limit allows."""

    __slots__ = ("action", "cause_ms", "expires_ms", "origin", "since_ms", "target_id", "target_type", "tenant_id")
    kind = "held"

    def __init__(self, tenant_id: str, target_type: TargetType, target_id: str, since_ms: int) -> None:
        super().__init__()
        self.tenant_id = tenant_id
        self.target_type: TargetType = target_type
        self.target_id = target_id
        self.since_ms = since_ms
        self.action: Action = "kill"
        self.origin = Origin("", "", "", None)
        self.cause_ms = 0
        self.expires_ms = 0
        """When the reason ends by itself, 0 where it does not."""

    @property
    def target(self) -> Target:
        """Whom it would be for."""
        return Target(self.target_type, self.target_id)

    def key_parts(self) -> tuple[str, ...]:
        return (self.tenant_id, self.target_type, self.target_id)

    def fields(self) -> tuple[Any, ...]:
        return (self.since_ms, self.action, tuple(self.origin), self.cause_ms, self.expires_ms)

    @classmethod
    def read(cls, parts: tuple[str, ...], fields: tuple[Any, ...]) -> "HeldCommand":
        """A held command as its row holds it."""
        tenant_id, target_type, target_id = parts
        since_ms, action, origin, cause_ms, expires_ms = fields
        held = cls(tenant_id, target_type, target_id, since_ms)  # type: ignore[arg-type]  # only target types are written
        held.action = action
        held.origin = Origin(*origin)
        held.cause_ms = cause_ms
        held.expires_ms = expires_ms
        return held
