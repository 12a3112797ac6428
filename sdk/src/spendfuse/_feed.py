"""What the guard needs of the thing that reads the control topic, Kafka or a fake."""

from collections.abc import Sequence
from typing import Protocol

from spendfuse._command import ControlRecord


class ControlFeed(Protocol):
    """Reads the whole control topic, oldest first, and knows how fresh its knowledge is. One thread calls it."""

    def poll(self, timeout_s: float) -> Sequence[ControlRecord]:
        """Return the next records, waiting at most `timeout_s` for the first. Never raises for broker trouble."""

    def fresh_at_s(self) -> float | None:
        """The latest `time.monotonic()` at which everything then on the topic is known to have been returned by now.

        None until the topic has been read through for the first time.
        """

    def close(self) -> None:
        """Stop reading."""
