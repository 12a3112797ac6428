"""All that the pipeline can ask of the world: publish a record, send a message, call it at a time. And what comes back.

Effects are performed in their order: a `Record` before a `Send` must be published before anything is sent.
"""

from dataclasses import dataclass

from alerting.notice import Notice, Receipt


@dataclass(frozen=True, slots=True)
class Send:
    """Send `notice` to `receiver`. The outcome comes back as `Sent` or `Failed` under the same `delivery_id`."""

    delivery_id: str
    """Derived from incident, state, level and receiver: the same after a restart."""
    receiver: str
    notice: Notice
    attempt: int


@dataclass(frozen=True, slots=True)
class Record:
    """Publish this on deliveries.v1, in the partition of its tenant's alerts. `value` None is a tombstone."""

    key: str
    tenant_id: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Call the pipeline again at this time. A later `WaitUntil` takes the place of an earlier one."""

    at_ms: int


Effect = Record | Send | WaitUntil


@dataclass(frozen=True, slots=True)
class Sent:
    """A receiver has accepted it."""

    delivery_id: str
    receipt: Receipt
    at_ms: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A receiver has not accepted it. `retry_after_ms` is what it asked for; None leaves it to the schedule. `detail`
    says in words why.
    """

    delivery_id: str
    reason: str
    retryable: bool
    ambiguous: bool
    retry_after_ms: int | None
    at_ms: int
    detail: str = ""
