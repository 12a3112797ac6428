"""Which command stands on a target, read from control.v1: for whoever asks once in a while."""

import asyncio

from schemas.codec import decode_command
from schemas.control import Command, Target
from schemas.errors import Undecodable
from schemas.signing import control_key
from streams.clock import wall_ms
from streams.kafka.whole_topic import committed_records
from streams.settings import Settings


class CommandsInForce:
    """Reads the topic at every question: it keeps the last command of each target, and few are asked about."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def stands(self, tenant_id: str, target: Target) -> bool:
        """Whether a kill, pause or downgrade stands on a target.

        Raises:
            BrokerError: control.v1 cannot be read.
        """
        return await asyncio.to_thread(self._stands, tenant_id, target)

    def _stands(self, tenant_id: str, target: Target) -> bool:
        key = control_key(tenant_id, target.type, target.id).encode()
        last: bytes | None = None
        for record in committed_records(self._settings, "control.v1"):
            if record.key() == key and record.value() is not None:  # a tombstone lifts nothing
                last = record.value()
        return last is not None and stands(last, wall_ms())


def stands(value: bytes, now_ms: int) -> bool:
    """Whether a record of control.v1 holds a target back. One that cannot be read may."""
    try:
        command: Command = decode_command(value)
    except Undecodable:
        return True
    return command.action != "resume" and now_ms < command.expires_ms
