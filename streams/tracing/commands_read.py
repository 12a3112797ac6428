"""Commands as somebody who obeys them has read them: whose cause's trace an answer belongs to."""

from typing import Final, NamedTuple

from spendfuse import ControlRecord

from schemas.codec import decode_command
from schemas.errors import Undecodable
from streams.clock import wall_ms
from streams.tracing.remembered import Newest

MOST_READ: Final = 10_000


class Read(NamedTuple):
    """A command, and when it was read."""

    tenant_id: str
    cause: str
    action: str
    at_ms: int


class CommandsRead:
    """The newest commands that have a cause."""

    def __init__(self) -> None:
        self._read: Newest[Read] = Newest(MOST_READ)

    def take(self, record: ControlRecord) -> None:
        """A command was read, and is believed."""
        try:
            command = decode_command(record.value)
        except Undecodable:
            return
        if command.cause_event_id is not None:
            read = Read(command.tenant_id, command.cause_event_id, command.action, wall_ms())
            self._read.add(command.command_id, read)

    def get(self, command_id: str, tenant_id: str) -> Read | None:
        """The tenant's command of that id; None where it is not known, or another's."""
        read = self._read.get(command_id)
        return read if read is not None and read.tenant_id == tenant_id else None
