"""The gateway's part: from the reading of a command until a run was denied its next step, or its guard answered."""

from typing import Final

from spendfuse import Command as BelievedCommand
from spendfuse import ControlRecord

from streams.clock import wall_ms
from streams.tracing.commands_read import CommandsRead
from streams.tracing.remembered import Newest
from streams.tracing.span import Span, Tracer

MOST_DENIED: Final = 10_000


class GuardTraces:
    """Tells a tracer what became of commands here: each run's first denial, and each answer."""

    def __init__(self, tracer: Tracer | None) -> None:
        self._tracer = tracer
        self._commands = CommandsRead()
        self._denied: Newest[None] = Newest(MOST_DENIED)

    def take(self, record: ControlRecord, _: BelievedCommand) -> None:
        """A command was read, and is believed."""
        if self._tracer is not None:
            self._commands.take(record)

    def denied(self, command_id: str | None, tenant_id: str, run_id: str, by: str | None) -> None:
        """A run may not make its next step; by which hook, where one asked."""
        if self._tracer is not None and command_id is not None:
            self._record(command_id, tenant_id, "guard denies", f"denied/{command_id}/{run_id}", run_id, by)

    def answered(self, command_id: str, tenant_id: str) -> None:
        """A guard that follows commands over HTTP has said what its run did."""
        if self._tracer is not None:
            self._record(command_id, tenant_id, "guard answers", f"answered/{command_id}", None, None)

    def _record(
        self, command_id: str, tenant_id: str, name: str, part: str, run_id: str | None, by: str | None
    ) -> None:
        read = self._commands.get(command_id, tenant_id)
        if self._tracer is None or read is None or not self._denied.add(part, None):
            return
        about: dict[str, str | int] = {"spendfuse.command_id": command_id, "spendfuse.action": read.action}
        about |= {"spendfuse.run_id": run_id} if run_id else {}
        about |= {"spendfuse.denied_by": by} if by else {}
        self._tracer.record([Span(tenant_id, read.cause, name, part, read.at_ms, wall_ms(), about)])
