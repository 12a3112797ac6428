"""When is a failed message tried again? A pure function of the attempt, the receiver and the delivery's id."""

from hashlib import sha256

from alerting.receivers.kind import Limits

QUIET_GIVEN_UP_MS = 24 * 3_600_000
"""How old may get what pages nobody before it is given up. What pages somebody is tried for ever."""


def retry_at_ms(limits: Limits, delivery_id: str, *, attempt: int, retry_after_ms: int | None, failed_ms: int) -> int:
    """When to try again after attempt number `attempt` (from 1) failed.

    Doubles from the receiver's `first_retry_ms` up to its `most_retry_ms`, spread by a quarter either way so that what
    failed together does not come back together. Never before what the receiver asked for.
    """
    wait_ms = min(limits.first_retry_ms << min(attempt - 1, 30), limits.most_retry_ms)
    spread = int.from_bytes(sha256(f"{delivery_id}/{attempt}".encode()).digest()[:4]) / 2**32
    wait_ms = round(wait_ms * (0.75 + spread / 2))
    return failed_ms + max(wait_ms, retry_after_ms or 0)
