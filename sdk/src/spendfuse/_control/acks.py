"""The agent's answers: one per command and run, told apart from a repeat by an id derived from both."""

import hashlib
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from spendfuse._client.logging import RareWarning
from spendfuse._client.run import Acted, Run
from spendfuse._client.runlike import RunLike
from spendfuse._control.command import Command

if TYPE_CHECKING:
    from spendfuse._client.emitter import Emitter

REMEMBERED = 10_000


class Acks:
    """Sends a `command_ack` the first time a run does what a command says. A dropped one is tried again."""

    def __init__(self, emitter: "Emitter") -> None:
        self._emitter = emitter
        self._given: OrderedDict[tuple[str, str, str], Acted] = OrderedDict()
        self._lock = threading.RLock()  # a signal's handler may end a run while its own thread does
        self._failure = RareWarning("%d commands could not be acknowledged: %s")

    def given(self, run: RunLike, command: Command) -> Acted | None:
        """What the run answered to the command so far."""
        return self._given.get(_key(run, command))

    def give(self, run: RunLike, command: Command, acted: Acted, denied_by: str | None = None) -> None:
        """Answer once. Never raises: an agent must stop even when it cannot say so."""
        key = _key(run, command)
        with self._lock:
            if key in self._given:
                return
            self._given[key] = acted
            if len(self._given) > REMEMBERED:
                self._given.popitem(last=False)
        try:
            accepted = self._send(run, command, acted, denied_by)
        except Exception as error:
            self._failure.happened(str(error))
            return
        if accepted is None:
            with self._lock:
                self._given.pop(key, None)

    def _send(self, run: RunLike, command: Command, acted: Acted, denied_by: str | None) -> str | None:
        event_id = ack_id(*_key(run, command))
        if isinstance(run, Run):
            return run.acknowledge(command.command_id, acted, event_id=event_id, denied_by=denied_by)
        return self._emitter.emit(
            {
                "type": "command_ack",
                "event_id": event_id,
                "tenant_id": run.tenant_id,
                "run_id": run.run_id,
                "session_id": run.session_id,
                "root_run_id": run.root_run_id,
                "command_id": command.command_id,
                "acted": acted,
                "denied_by": denied_by,
            }
        )


def ack_id(tenant_id: str, run_id: str, command_id: str) -> str:
    """Return the id of a run's answer to a command: the same from whoever gives it, so that it counts once."""
    return hashlib.sha256("\0".join(("ack", tenant_id, run_id, command_id)).encode()).hexdigest()[:32]


def _key(run: RunLike, command: Command) -> tuple[str, str, str]:
    return (run.tenant_id, run.run_id, command.command_id)
