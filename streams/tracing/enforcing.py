"""The enforcers' part: from the reading of a command until a provider has confirmed that its key is switched."""

from spendfuse import Command as BelievedCommand
from spendfuse import ControlRecord

from schemas.errors import BrokerError
from streams.clock import wall_ms
from streams.enforcer.enforcer import Enforcer, Wanted
from streams.provider_api import ProviderError
from streams.tracing.commands_read import CommandsRead
from streams.tracing.span import Span, Tracer


class EnforcerTraces:
    """Tells a tracer of each attempt to switch a key. Its opening belongs to the trace of what had closed it."""

    def __init__(self, tracer: Tracer | None) -> None:
        self._tracer = tracer
        self._commands = CommandsRead()

    def take(self, record: ControlRecord, _: BelievedCommand) -> None:
        """A command was read, and is believed."""
        if self._tracer is not None:
            self._commands.take(record)

    def tried(
        self, enforcer: Enforcer, wanted: Wanted, begun_ms: int, error: ProviderError | BrokerError | None = None
    ) -> None:
        """An attempt that was begun then has ended just now. What somebody else has switched is not told."""
        command_id, given = wanted.command_id or enforcer.command_id, enforcer.settings
        if self._tracer is None or command_id is None or (error is None and not enforcer.is_ours):
            return
        read = self._commands.get(command_id, given.tenant_id)
        if read is None:
            return
        name = "enforcer closes" if wanted.closed else "enforcer opens"
        about: dict[str, str | int] = {
            "spendfuse.command_id": command_id,
            "spendfuse.action": read.action,
            "spendfuse.enforcer": given.name,
            "spendfuse.provider": given.provider,
        }
        since_ms = read.at_ms if wanted.closed else begun_ms
        part, failure = f"{name}/{given.name}/{begun_ms}", None if error is None else _word(error)
        self._tracer.record([Span(given.tenant_id, read.cause, name, part, since_ms, wall_ms(), about, failure)])


def _word(error: ProviderError | BrokerError) -> str:
    """Why it failed, without a word of the provider's."""
    if isinstance(error, BrokerError):
        return "not written down"
    return "not confirmed" if error.status is None else f"status {error.status}"
