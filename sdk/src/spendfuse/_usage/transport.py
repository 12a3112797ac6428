"""What the emitter needs of the thing that carries its records, Kafka or a fake."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One event as it goes to the log. `key` is the tenant; `ts_ms` when it happened, by this machine's clock."""

    event_id: str
    key: bytes
    value: bytes
    ts_ms: int


@dataclass(frozen=True, slots=True)
class Undelivered:
    """Why a record did not arrive, whether sending it again could help, and whether that needs no rest before.

    `rest_s`, where it is not 0, is for how long the receiver has asked to be sent nothing at all.
    """

    reason: str
    retriable: bool
    at_once: bool = False
    rest_s: float = 0.0


Done = Callable[[Record, Undelivered | None], None]
"""Called once per accepted record: with None when it is in the log, else with why not. From any thread."""


class Transport(Protocol):
    """Carries records. Only the emitter's own thread calls it, so it may wait a little; the agent never does."""

    def send(self, record: Record, done: Done) -> None:
        """Accept the record. Raises BufferError when there is no room now: the emitter keeps it and comes back."""

    def poll(self, timeout_s: float) -> None:
        """Give the transport a chance to call `done`."""

    def close(self) -> None:
        """Let go of everything at once; what is unsent by now stays so."""
