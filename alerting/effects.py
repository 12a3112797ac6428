"""All that telling can ask of the world: send something, or wake the pipeline at a time. And what comes back."""

from dataclasses import dataclass

from alerting.notice import Notice, Receipt


@dataclass(frozen=True, slots=True)
class Send:
    """Have `receiver` say `notice`. The outcome comes back as `Sent` or `Failed` under the same `delivery_id`."""

    delivery_id: str
    """Derived from incident, state, level and receiver: the same after a restart."""
    receiver: str
    notice: Notice
    attempt: int


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Call the pipeline again at this time."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class Sent:
    """A receiver has said it."""

    delivery_id: str
    receipt: Receipt
    at_ms: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A receiver could not say it. `retry_after_ms` is what it asked for; None leaves it to the schedule."""

    delivery_id: str
    reason: str
    retryable: bool
    ambiguous: bool
    retry_after_ms: int | None
    at_ms: int
