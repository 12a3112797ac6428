"""When is a failed message tried again? A pure function of the attempt, the receiver and the delivery's id."""

from hashlib import sha256

from schemas.routing import ReceiverType

FIRST_MS: dict[ReceiverType, int] = {"slack": 2_000, "pagerduty": 30_000, "webhook": 2_000, "console": 1_000}
MOST_MS: dict[ReceiverType, int] = {"slack": 300_000, "pagerduty": 600_000, "webhook": 300_000, "console": 10_000}
QUIET_GIVEN_UP_MS = 24 * 3_600_000
"""How old may get what pages nobody before it is given up. What pages somebody is tried for ever."""


def retry_at_ms(
    receiver_type: ReceiverType, delivery_id: str, *, attempt: int, retry_after_ms: int | None, failed_ms: int
) -> int:
    """When to try again after attempt number `attempt` (from 1) failed.

    Doubles from `FIRST_MS` up to `MOST_MS`, spread by a quarter either way so that what failed together does not come
    back together. Never before what the receiver asked for.
    """
    wait_ms = min(FIRST_MS[receiver_type] << min(attempt - 1, 30), MOST_MS[receiver_type])
    spread = int.from_bytes(sha256(f"{delivery_id}/{attempt}".encode()).digest()[:4]) / 2**32
    wait_ms = round(wait_ms * (0.75 + spread / 2))
    return failed_ms + max(wait_ms, retry_after_ms or 0)
