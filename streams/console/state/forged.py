"""What looks like a command and is none."""

from typing import NamedTuple

from schemas.control import CommandAction, Target


class Forged(NamedTuple):
    """A record of control.v1 that looks like a command and that the engine has not signed: no guard obeys it."""

    tenant_id: str
    action: CommandAction
    target: Target
    written_ms: int
    """When the broker appended it: what the record says of itself is its writer's word."""
    record: str
    """Partition and offset, which tell it from others."""
